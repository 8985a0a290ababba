"""Seeds depend on their key, all of it and nothing else."""

from slicesampling.jobs.randomness import generator, seed_of


def test_seeds_depend_on_every_part_of_the_key_and_its_type() -> None:
    keys = [
        (1, "rss", 3, "query"),
        (1, "rss", 4, "query"),
        (2, "rss", 3, "query"),
        (1, "rs", "s", 3, "query"),
        ("1", "rss", 3, "query"),
    ]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert seed_of(1, "rss", 3, "query") == 9082778260109138690  # equal on every platform and in every version
    assert generator(1, "a").random() == generator(1, "a").random()
