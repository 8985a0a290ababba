"""Picking by probability maps of any ensemble: by definition, whatever the format, and never what is annotated."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from commands import COMMAND, typed
from conftest import ROOT
from rounds import ellipsoid
from scans import grid_of, write_nifti
from scipy.ndimage import gaussian_filter
from scipy.signal import find_peaks
from slicesampling import NOT_ANNOTATED

SHAPE, MEMBERS, VOLUMES = (40, 12, 14), 3, ("case_a", "case_b", "case_c")
GRID = grid_of(SHAPE, (2.5, 0.9, 0.8))


def maps() -> dict[str, np.ndarray]:
    """Probabilities (member, z, y, x) of each volume."""
    random = np.random.default_rng(5)
    found = {}
    for number, volume in enumerate(VOLUMES):
        noise = gaussian_filter(random.normal(size=(MEMBERS, *SHAPE)), (0, 1.5, 2, 2)) * 25
        found[volume] = (1 / (1 + np.exp(-(6 * ellipsoid(SHAPE, 0.1 * number) - 3 + noise)))).astype(np.float32)
    return found


def write(folder: Path, kind: str = ".nii.gz") -> Path:
    """Write the maps as an ensemble does, in a format."""
    for volume, probabilities in maps().items():
        for member, values in enumerate(probabilities):
            (folder / f"fold_{member}").mkdir(parents=True, exist_ok=True)
            path = folder / f"fold_{member}/{volume}{'.npz' if kind.endswith('npz') else '.nii.gz'}"
            if kind == ".nii.gz":
                write_nifti(path, values, GRID)
            else:
                classes = [1 - values, values] if kind == ".npz" else [np.zeros_like(values), 1 - values, values]
                np.savez_compressed(path, probabilities=np.stack(classes))
        (folder / "fold_0/plans.json").touch()
    return folder


def pick(folder: Path, *arguments: object, code: int = 0) -> tuple[pd.DataFrame, str]:
    table = folder.parent / "picked.tsv"
    said = typed("pick", folder, "--to", table, *arguments, code=code)
    return pd.read_csv(table, sep="\t", dtype={"volume": str}) if code == 0 else pd.DataFrame(), said


def by_definition(budget: int, without: set[tuple[str, int]] = frozenset()) -> list[tuple[str, int]]:
    """What uncertainty slice sampling picks (eq. 1 and section II-D), in numpy and scipy alone."""
    ranked = []
    for volume, probabilities in maps().items():
        mean = probabilities.astype(np.float64).mean(axis=0)
        profile = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).mean(axis=(1, 2))
        ranked += [(-profile[k], volume, k) for k in find_peaks(profile, distance=5)[0] if (volume, k) not in without]
    return [(volume, int(k)) for _, volume, k in sorted(ranked)[:budget]]


def slices_of(query: pd.DataFrame) -> list[tuple[str, int]]:
    return list(query[["volume", "slice"]].itertuples(index=False, name=None))


def test_the_papers_strategy_is_what_it_is_by_definition_in_each_format(tmp_path: Path) -> None:
    expected = by_definition(7)
    for kind, further in ((".nii.gz", ()), (".npz", ()), ("3.npz", ("--channel", 2))):
        folder = write(tmp_path / kind / "maps", kind)
        if kind.endswith("npz"):  # nnU-Net writes masks beside
            write_nifti(folder / "fold_1/case_a.nii.gz", np.zeros(SHAPE, np.uint8), GRID)
            assert "and no channel -1" in pick(folder, "--slices", 7, "--channel", -1, code=1)[1]
        query, said = pick(folder, "--slices", 7, *further)
        assert slices_of(query) == expected
        assert query["rank"].tolist() == list(range(7))
        assert "7 slices of" in said


def test_it_is_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", COMMAND, "pick", write(tmp_path / "maps"), "--to", tmp_path / "p.tsv"]
    for arguments, code in ((["--slices", "3"], 0), ([], 1)):
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
    assert slices_of(pd.read_csv(tmp_path / "p.tsv", sep="\t")) == by_definition(3)


def test_what_is_annotated_is_not_picked_again(tmp_path: Path) -> None:
    folder, first = write(tmp_path / "maps"), by_definition(4)
    query, _ = pick(folder, "--slices", 4)
    (tmp_path / "picked.tsv").rename(tmp_path / "first.tsv")
    assert slices_of(query) == first
    label = np.full(SHAPE, 9, np.uint8)
    (name, index), *_ = rest = by_definition(6, set(first))
    label[index] = 0  # annotated, without structure
    (tmp_path / "labels").mkdir()
    write_nifti(tmp_path / f"labels/{name}.nii.gz", label, GRID)
    given = ["--annotated", tmp_path / "first.tsv", "--annotated", tmp_path / "labels", "--ignore", 9]
    query, _ = pick(folder, "--slices", 5, *given)
    assert slices_of(query) == rest[1:]


@pytest.mark.parametrize(("strategy", "unit"), [
    ("rss", "slices"), ("rvs", "volumes"), ("uvs", "volumes"),
    ("{unit: slice, measure: mutual_information, rule: power, beta: 2}", "slices"),
    ("{unit: slice, rule: random, foreground: 1}", "slices"),
    ("{unit: volume, measure: variance, rule: maximum}", "volumes"),
])  # fmt: skip
def test_other_strategies_pick_as_many_and_the_same_again(tmp_path: Path, strategy: str, unit: str) -> None:
    folder = write(tmp_path / "maps")
    query, _ = pick(folder, "--strategy", strategy, f"--{unit}", 2)
    assert query["rank"].nunique() == 2
    assert len(query) == (2 if unit == "slices" else 2 * SHAPE[0])
    again, _ = pick(folder, "--strategy", strategy, f"--{unit}", 2)
    pd.testing.assert_frame_equal(query, again)
    if "foreground" in strategy:
        for volume, index in slices_of(query):
            assert (maps()[volume].mean(axis=0)[index] > 0.5).any()


@pytest.mark.parametrize("kind", [".nii.gz", ".npz"])
def test_masks_to_draw_on_hold_the_ensembles_on_picked_slices_alone(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path / "maps", kind)
    given: list[object] = ["--slices", 6, "--export", tmp_path / "draw"]
    if kind == ".npz":
        assert "by --images FOLDER" in pick(folder, *given, code=1)[1]
        assert not (tmp_path / "draw").exists()
        (tmp_path / "images").mkdir()
        for volume in VOLUMES:
            write_nifti(tmp_path / f"images/{volume}_0000.nii.gz", np.zeros(SHAPE, np.int16), GRID)
        given += ["--images", tmp_path / "images"]
    query, _ = pick(folder, *given)
    for volume, rows in query.groupby("volume"):
        image = nibabel.load(tmp_path / f"draw/{volume}.nii.gz")
        label, picked = np.asarray(image.dataobj).T, rows["slice"].to_numpy()
        np.testing.assert_array_equal(label[picked], maps()[volume].mean(axis=0)[picked] > 0.5)
        assert (np.delete(label, picked, 0) == NOT_ANNOTATED).all()
        write_nifti(tmp_path / "same.nii", label, GRID)
        np.testing.assert_allclose(image.affine, nibabel.load(tmp_path / "same.nii").affine)
    assert len(list((tmp_path / "draw").iterdir())) == query["volume"].nunique() + 1
    assert "exists already" in pick(folder, *given, code=1)[1]


@pytest.mark.parametrize(("change", "arguments", "message"), [
    (lambda maps: (maps / "fold_1/case_b.nii.gz").unlink(), ["--slices", 2], "has no map of case_b (1 missing)"),
    (lambda maps: [(maps / f"fold_{k}").rename(maps.parent / f"f{k}") for k in (1, 2)], ["--slices", 2],
     "has 1 folders with maps"),
    (lambda maps: write_nifti(maps / "fold_1/case_b.nii", np.zeros(SHAPE, np.float32), GRID), ["--slices", 2],
     "case_b.nii exists as well; accepted is one map per volume"),
    (lambda maps: write_nifti(maps / "fold_1/case_b.nii.gz", np.full(SHAPE, 1.5, np.float32), GRID), ["--slices", 2],
     "holds 1.5 to 1.5; accepted are probabilities"),
    (lambda maps: write_nifti(maps / "fold_1/case_b.nii.gz", np.zeros((3, 4, 5), np.float32), GRID), ["--slices", 2],
     "has (3, 4, 5) voxels, the first map of case_b (40, 12, 14)"),
    (lambda maps: (maps / "fold_1/case_b.nii.gz").write_bytes(b"x"), ["--slices", 2], "cannot be read as NIfTI"),
    (lambda maps: None, ["--volumes", 2], "strategy uss picks slices; give their number"),
    (lambda maps: None, ["--slices", 2, "--strategy", "best"], "accepted are uvs, rvs, uss, rss"),
    (lambda maps: None, ["--slices", 2, "--strategy", "{unit: slice, rule: fast}"], "'fast'; accepted with unit slice"),
    (lambda maps: None, ["--slices", 2, "--strategy", "{unit: slice, rule: k_centre}"], "features of a network"),
    (lambda maps: None, ["--slices", 2, "--distance", 0], "--distance 0, --dilation 11: accepted are"),
    (lambda maps: None, ["--slices", 2, "--dilation", 4], "--distance 5, --dilation 4: accepted are"),
    (lambda maps: None, ["--slices", 2, "--annotated", "tests"], "masks need --ignore"),
    (lambda maps: None, ["--slices", 2, "--annotated", "README.md"], "volume and slice"),
    (lambda maps: None, ["--slices", 2, "--annotated", "nowhere.tsv"], "nowhere.tsv: No such file"),
])  # fmt: skip
def test_a_fault_is_one_line(tmp_path: Path, change, arguments: list[object], message: str) -> None:
    folder = write(tmp_path / "maps")
    change(folder)
    said = pick(folder, *arguments, code=1)[1].strip()
    assert message in said
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
    assert not (tmp_path / "picked.tsv").exists()
