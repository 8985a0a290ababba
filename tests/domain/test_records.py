"""Laws of the records: what was written comes back, whatever names look like, and what is no such table is a line."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slicesampling import UserError
from slicesampling.domain.records import LEDGER, TEXT, joined, read_cells, read_table, write_table

ODD_NAMES = ["NA", "null", "nan", "None", "N/A", "", "007", "7", "1e5", "100000", "TRUE", "True", "-inf", "0x1", "# 1"]


@pytest.mark.parametrize("column", sorted(TEXT))
def test_names_are_text_whatever_they_look_like(tmp_path: Path, column: str) -> None:
    table = pd.DataFrame({column: ODD_NAMES, "slice": range(len(ODD_NAMES))})
    write_table(tmp_path / "t.tsv", table)
    assert read_table(tmp_path / "t.tsv")[column].tolist() == ODD_NAMES
    table.to_csv(tmp_path / "t.csv", index=False)
    assert read_table(tmp_path / "t.csv")[column].tolist() == ODD_NAMES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True),
            st.integers(0, 2**40),
            st.floats(allow_infinity=False),
            st.booleans(),
        ),
        min_size=1,
    )
)
def test_what_was_written_comes_back(tmp_path: Path, rows: list[tuple]) -> None:
    table = pd.DataFrame(rows, columns=["volume", "slice", "score", "degenerate"])
    write_table(tmp_path / "t.tsv", table)
    again = read_table(tmp_path / "t.tsv")
    assert again["volume"].tolist() == table["volume"].tolist()
    assert again["slice"].tolist() == table["slice"].tolist()
    assert again["degenerate"].tolist() == table["degenerate"].tolist()
    np.testing.assert_allclose(again["score"], table["score"], rtol=1e-15)


def test_a_missing_number_is_missing_and_a_missing_text_is_empty(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("volume\tslice\tstructure\na\t1\t\n\t2\t1\n")
    table = read_table(tmp_path / "t.tsv")
    assert table["volume"].tolist() == ["a", ""]
    assert table["structure"].isna().tolist() == [True, False]


def test_a_record_of_an_older_version_has_the_new_names(tmp_path: Path) -> None:
    (tmp_path / "old.tsv").write_text("volume\tslice\tliver\tliver_slices\na\t1\t0\t7\n")
    assert list(read_table(tmp_path / "old.tsv", LEDGER[:2])) == ["volume", "slice", "structure", "structure_slices"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"volume\tslice\na\t1\n", "has no column iteration, structure; its columns are volume, slice"),
        (b"", "cannot be read as a table (No columns to parse from file)"),
        (b"volume\tslice\na\t1\t2\t3\nb\n", "cannot be read as a table (its rows have more cells than its header)"),
        (b"volume\tslice\na\t1\nb\t1\t2\t3\n", "cannot be read as a table (Error tokenizing data."),
        (b"volume\xff\t\xfe\n", "cannot be read as a table"),
    ],
)
def test_what_is_no_such_table_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 't.tsv'}: {said}")) as error:
        read_table(tmp_path / "t.tsv", LEDGER)
    assert "\n" not in str(error.value)


def test_cells_come_out_as_they_went_in(tmp_path: Path) -> None:
    table = pd.DataFrame({"volume": ODD_NAMES, "anything": list(reversed(ODD_NAMES))})
    write_table(tmp_path / "t.tsv", table)
    pd.testing.assert_frame_equal(read_cells(tmp_path / "t.tsv"), table, check_dtype=False)
    with pytest.raises(UserError, match="there is no such file"):
        read_cells(tmp_path / "none.tsv")


def test_a_shard_without_a_sound_volume_has_its_columns() -> None:
    assert list(joined([], LEDGER)) == list(LEDGER)


def test_tables_are_read_in_one_place() -> None:
    """Elsewhere pandas reads but what Snakemake itself writes, the table of a job's time and memory."""
    reading = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "workflow").rglob("*.py")
        if "read_csv" in path.read_text(encoding="utf-8")
    ]
    library = "workflow/scripts/slicesampling"
    assert sorted(reading) == [f"{library}/domain/records.py", f"{library}/publication/overview.py"]
