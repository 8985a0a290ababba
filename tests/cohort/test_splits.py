"""Splits keep patients whole and their sizes; rows make a sound table."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from slicesampling import UserError
from slicesampling.cohort.cases import Case
from slicesampling.cohort.contents import check_contents
from slicesampling.cohort.splits import add_to_table, assign_splits, cohort_rows
from slicesampling.cohort.table import read_cohort, table_faults
from slicesampling.domain.labels import Label
from test_importers import nifti


@at_most(60)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    given_splits=st.lists(st.sampled_from(["", "", "pool", "val", "test"]), min_size=30, max_size=30),
    validation=st.integers(0, 3),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_splits_keep_patients_whole_and_their_sizes(sizes, given_splits, validation, share, seed):
    rows = pd.DataFrame(
        [
            {"patient": f"p{number}", "site": "AB"[number % 2], "split": given_splits[number]}
            for number, size in enumerate(sizes)
            for _ in range(size)
        ]
    )
    splits = assign_splits(rows, validation, share, seed)
    assert set(splits) == set(rows["patient"])
    for patient, split in rows[rows["split"] != ""][["patient", "split"]].itertuples(index=False):
        assert splits[patient] == split
    for _, of_site in rows.groupby("site"):
        found = of_site["patient"].map(splits)
        if len(of_site) == 1:
            assert found.item() == (of_site["split"].item() or "pool")
            continue
        free = of_site[of_site["split"] == ""]
        counts = {split: int((found == split).sum()) for split in ("pool", "val", "test")}
        largest = int(free.groupby("patient").size().max()) if len(free) else 0
        if len(free) and not (of_site["split"] == "val").any():
            assert min(validation, len(free)) <= counts["val"] < validation + largest or validation == 0
        if not (of_site["split"] != "").any():
            wanted = share * (len(of_site) - validation)
            assert counts["test"] <= max(wanted, 0) + largest
            assert counts["pool"] == 0 or counts["test"] >= wanted
    shuffled = rows.sample(frac=1, random_state=seed)
    assert assign_splits(shuffled, validation, share, seed) == splits
    alone = rows[rows["site"] == "A"]
    assert assign_splits(alone, validation, share, seed).items() <= splits.items(), "a site does not see the others"


def test_the_papers_proportions():
    rows = pd.DataFrame({"patient": [f"p{n}" for n in range(131 - 65)], "site": "LiTS", "split": ""})
    counts = pd.Series(assign_splits(rows, 2, 0.49, 1)).value_counts()
    assert counts["val"] == 2
    assert counts["test"] == 32
    assert assign_splits(rows, 2, 0.49, 1) != assign_splits(rows, 2, 0.49, 2)


def test_a_patient_in_two_given_splits_is_refused():
    rows = pd.DataFrame({"patient": ["p", "p"], "site": "A", "split": ["test", "pool"]})
    with pytest.raises(UserError, match="patient p: volumes in the splits pool, test"):
        assign_splits(rows, 2, 0.5, 1)


def some_cases(tmp_path: Path, count: int) -> list[Case]:
    return [
        Case(
            f"{n:03}", nifti(tmp_path / f"{n}.nii.gz", n), Label.single(nifti(tmp_path / f"{n}-mask.nii.gz", 1), (1, 2))
        )
        for n in range(count)
    ]


def test_rows_make_a_sound_table_and_add_up(tmp_path):
    table, cases = tmp_path / "config/cohort.tsv", some_cases(tmp_path, 12)
    first = cohort_rows(cases[:8], "lits", {"lits-003": "vena cava"}, 2, 0.4, 1, force_ct=True)
    add_to_table(table, first)
    add_to_table(table, cohort_rows(cases[8:], "chaos", {}, 1, 0.5, 1, force_ct=True))
    cohort = read_cohort(table)
    assert len(cohort) == 12
    assert table_faults(cohort) == []
    assert check_contents(cohort, 1, spacing=(1, 1, 1))[0] == []
    assert cohort.loc[cohort["exclude"] != "", "volume"].tolist() == ["lits-003"]
    assert (cohort["liver_values"] == "1,2").all()
    before = table.read_bytes()
    with pytest.raises(UserError, match=r"volume lits-000 is there already \(8 such\)"):
        add_to_table(table, first)
    assert table.read_bytes() == before
    with pytest.raises(UserError, match="excluded volume lits-999: not found"):
        cohort_rows(cases, "lits", {"lits-999": "x"}, 2, 0.4, 1)
    with pytest.raises(UserError, match="holds a tab or a line break"):
        add_to_table(table, first.assign(volume=[f"x{n}" for n in range(8)], patient="a\tb"))
