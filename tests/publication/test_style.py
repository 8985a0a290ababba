"""Laws of the look: an outline runs around its mask, and the same figure gives the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from slicesampling.publication import style
from test_figures import a_slice, learning_curve, profile


@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
@at_most(50)
def test_outline_runs_between_the_mask_and_what_is_outside(mask: np.ndarray) -> None:
    padded = np.pad(mask, 1)
    expected = set()
    for y, x in np.argwhere(padded):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if not padded[y + dy, x + dx]:
                expected.add((float(x + dx / 2 - 1), float(y + dy / 2 - 1)))
    lines = style.outline(mask)
    assert {(float(x), float(y)) for line in lines for x, y in line} == expected
    assert all(np.array_equal(line[0], line[-1]) for line in lines)


def test_body_is_what_is_shown_not_the_table() -> None:
    image, _ = a_slice()
    expected = image > -1000
    image[-2:] = 300  # the table
    np.testing.assert_array_equal(style.body(image), expected)
    assert style.body(np.full((4, 5), -1000)).all()


def test_same_data_give_the_same_files(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    style.save_figure(profile(1), tmp_path / "one.stem")
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.bbox": "tight", "pdf.fonttype": 3}):
        style.save_figure(profile(1), tmp_path / "two")
    assert {path.name for path in tmp_path.iterdir()} == {"one.stem.png", "one.stem.pdf", "two.png", "two.pdf"}
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"one.stem.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    pdf = (tmp_path / "two.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    assert b"Date" not in pdf


def test_another_process_writes_the_same_files(tmp_path: Path) -> None:
    style.save_figure(learning_curve(5), tmp_path / "here")
    code = "import sys, test_figures as t; t.style.save_figure(t.learning_curve(5), sys.argv[1])"
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(style.__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": folders, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], env=environment, check=True)
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"here.{suffix}").read_bytes() == (tmp_path / f"there.{suffix}").read_bytes()
