"""What an annotated set consists of."""

import numpy as np
import pandas as pd
import pytest
from slicesampling.evaluation.composition import ALL, ALL_HARD, ENDS, at_an_end, composition
from slicesampling.publication.composition import composition_table
from slicesampling.publication.layout import write_files


def reference(structure_slices=(20, 40, 60)):
    """Make volumes a, b, c whose slices 5 to 5 + n hold liver."""
    volumes = [
        pd.DataFrame({"volume": name, "slice": range(number + 10), "structure": 0}).assign(
            structure=lambda rows, number=number: rows["slice"].between(5, 4 + number).astype(int)
        )
        for name, number in zip("abc", structure_slices, strict=True)
    ]
    return pd.concat(volumes, ignore_index=True)


COHORT = pd.DataFrame(
    {"volume": [*"abc"], "patient": ["p", "p", "q"], "site": ["A", "A", "B"], "hard_case": ["", "motion", ""]}
)


def drawn(seeds=(1,), strategies=("uss", "rss"), number=40):
    random = np.random.default_rng(0)
    return pd.concat(
        reference()
        .sample(number, random_state=random)
        .assign(seed=seed, strategy=name)[["seed", "strategy", "volume", "slice"]]
        for seed in seeds
        for name in strategies
    )


def share(table, strategy, part):
    return table.set_index(["strategy", "part"])["share"].loc[(strategy, part)]


@pytest.mark.parametrize(("number", "ends"), [(1, 1), (2, 2), (4, 2), (10, 2), (20, 4), (60, 12)])
def test_an_end_is_a_tenth_from_either_side_and_at_least_a_slice(number, ends):
    table = reference((number, 40, 60))
    found = table[at_an_end(table) & (table["volume"] == "a")]
    assert len(found) == ends
    assert found["structure"].all()
    assert {5, 4 + number} <= set(found["slice"])
    mixed = table.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(at_an_end(mixed).sort_index(), at_an_end(table))


def test_annotating_everything_gives_the_pool():
    table = composition(reference().assign(seed=1, strategy="uss"), reference(), COHORT)
    uss, pool = (table[table["strategy"] == name].drop(columns="strategy") for name in ("uss", "pool"))
    pd.testing.assert_frame_equal(uss.reset_index(drop=True), pool.reset_index(drop=True))
    assert share(table, "pool", "site A") == pytest.approx(60 / 120)
    assert share(table, "pool", ALL_HARD) == share(table, "pool", "hard case: motion") == pytest.approx(40 / 120)
    assert share(table, "pool", ENDS) == pytest.approx((4 + 8 + 12) / 120)
    everything = table[(table["strategy"] == "pool") & (table["part"] == ALL)].iloc[0]
    assert everything[["slices", "structure_slices", "patients"]].tolist() == [150, 120, 2]


def test_sites_share_the_whole_and_names_do_not_matter():
    table = composition(drawn(), reference(), COHORT)
    for name in ("uss", "rss", "pool"):
        assert share(table, name, "site A") + share(table, name, "site B") == pytest.approx(1)
    other = composition(drawn().replace({"uss": "rss", "rss": "uss"}), reference(), COHORT)
    swapped = other.replace({"strategy": {"uss": "rss", "rss": "uss"}})
    pd.testing.assert_frame_equal(table.sort_values(["strategy", "part"]), swapped.sort_values(["strategy", "part"]))


def test_only_slices_with_liver_count_in_a_share():
    hard_only = reference()[lambda rows: (rows["volume"] == "b") & (rows["structure"] == 1)]
    empty = reference()[lambda rows: rows["structure"] == 0]
    table = composition(pd.concat([hard_only, empty]).assign(seed=1, strategy="uss"), reference(), COHORT)
    assert share(table, "uss", ALL_HARD) == 1
    nothing = composition(empty.assign(seed=1, strategy="uss"), reference(), COHORT)
    assert np.isnan(share(nothing, "uss", ENDS))
    assert composition_table(nothing).display.loc["Ends of the liver [%]", "USS"] == "–"


@pytest.mark.parametrize("cohort", [COHORT.drop(columns="hard_case"), COHORT.assign(hard_case="")])
def test_a_cohort_without_hard_cases_says_so(cohort):
    table = composition_table(composition(drawn(), reference(), cohort))
    assert "names no hard cases" in table.note
    assert not [label for label in table.display.index if "ard" in label]


def test_several_seeds_give_mean_and_range(tmp_path):
    table = composition(drawn(seeds=(1, 2, 3)), reference(), COHORT)
    shown = composition_table(table)
    ends = table[(table["strategy"] == "uss") & (table["part"] == ENDS)]["share"] * 100
    expected = f"{ends.mean():.1f} ({ends.min():.1f}–{ends.max():.1f})"
    assert shown.display.loc["Ends of the liver [%]", "USS"] == expected
    assert shown.display.loc["Ends of the liver [%]", "data pool"] == "20.0"
    assert "Mean over 3 seeds" in shown.note
    assert "One seed" in composition_table(composition(drawn(), reference(), COHORT)).note
    assert all(path.stat().st_size for path in write_files(shown, tmp_path / shown.name))
