"""What a user did wrong: each run stops with one message that names it, before anything else has run."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SMALLEST, job_counts, snakemake
from scans import ras, write_series
from slicesampling.cohort.scans import read_scan
from slicesampling.domain.records import read_table

TABLE = "results/tables/table4_dice.html"
"""Rests on most of the workflow."""


def write_cohort(folder: Path, run: Path, **changes: dict[str, str]) -> Path:
    """Write the finished run's cohort as a table of one's own, with cells of named volumes changed."""
    cohort = read_table(run / "results/cohort/cohort.tsv")
    for column in ("image", "label"):
        cohort[column] = [str(run / path) for path in cohort[column]]
    cohort = cohort.set_index("volume", drop=False)
    for volume, cells in changes.items():
        for column, value in cells.items():
            cohort.loc[volume.replace("_", "-"), column] = value
    path = folder / "cohort.tsv"
    cohort.to_csv(path, sep="\t", index=False)
    return path


def test_faults_of_the_table_are_listed_before_anything_runs(run: Path, tmp_path: Path) -> None:
    table = write_cohort(
        tmp_path,
        run,
        yokohama_p001={"image": "/nowhere/ct.nii.gz"},
        yokohama_p002={"split": "training"},
        lits_p001={"volume": "lits/p001"},
        chaos_t001={"patient": "lits-v001"},
    )
    config = [f"cohort={table}", "initial_volumes=9"]
    output = snakemake(tmp_path, *SMALLEST, "--config", *config, "--dry-run", code=1)
    for fault in (
        "row 2, column image, '/nowhere/ct.nii.gz': there is no such file",
        "row 3, column split, 'training': unknown split; accepted are pool, val, test",
        "column volume, 'lits/p001'",
        "column patient, 'lits-v001': the patient is in split",
        "pool volumes are too few: 9 for the initial set",
    ):
        assert fault in output
    assert "Traceback" not in output
    assert not (tmp_path / "results").exists()


def test_faults_of_the_files_stop_everything_but_the_check(run: Path, tmp_path: Path) -> None:
    """A mask on another grid and an empty mask: both are named by the first job, and nothing else has run."""
    image = nibabel.load(run / "results/phantom/yokohama-p001/ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), tmp_path / "empty.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 5, 5), np.uint8), image.affine), tmp_path / "other.nii.gz")
    table = write_cohort(
        tmp_path,
        run,
        yokohama_p001={"label": str(tmp_path / "empty.nii.gz")},
        yokohama_p002={"label": str(tmp_path / "other.nii.gz")},
    )
    output = snakemake(tmp_path, TABLE, *SMALLEST, "--config", f"cohort={table}", code=1)
    assert "row 2, column label" in output
    last = output[output.index("At least one job did not complete successfully") :]
    assert "check_cohort failed, see results/logs/check_cohort.log" in last
    for said in ("row 2, column label", "the liver mask is empty", "row 3, column label"):
        assert said in last
        assert output.count(said) == 2
    assert "input:" not in last
    assert "Traceback" not in output
    assert "cohort.tsv, see results/faults.html: 2 faults" in last
    page = (tmp_path / "results/faults.html").read_text()
    assert '<td>2</td><th scope="row">yokohama-p001</th><td>label</td>' in page
    assert "the liver mask is empty" in page
    assert {path.name for path in (tmp_path / "results").iterdir()} <= {"logs", "benchmarks", "cohort", "faults.html"}
    assert not list((tmp_path / "results").glob("cohort/*"))


def test_the_page_of_the_cohort_needs_no_number_of_volumes(run: Path, tmp_path: Path) -> None:
    """Two volumes of the pool can be looked at; what trains says what it needs."""
    table = write_cohort(tmp_path, run)
    few = read_table(table).query("split == 'pool'").head(2)
    few.to_csv(table, sep="\t", index=False)
    more = [*SMALLEST, "--config", f"cohort={table}", "initial_volumes=5", "--dry-run"]
    assert job_counts(snakemake(tmp_path, "cohort_report", *more))["check_cohort"] == 1
    output = snakemake(tmp_path, *more, code=1)
    assert "2 pool volumes are too few: 5 for the initial set" in output
    assert "no volume is in this split; add one or more to choose the best model" in output


def test_a_wrong_configuration_is_one_message(tmp_path: Path) -> None:
    faults = {
        "iterations=0": "iterations is 0; accepted: a whole number from 1",
        "strategies=[uss,uus]": "strategies.1 is 'uus'; accepted: uvs or rvs or uss or rss",
        "iteration=3": "iteration is no key",
    }
    output = snakemake(tmp_path, *SMALLEST, "--config", *faults, "--dry-run", code=1)
    for message in faults.values():
        assert message in output
    assert "Traceback" not in output


def test_the_slurm_profile_without_slurm_is_one_message(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sh", "which"):
        (tools / name).symlink_to(str(shutil.which(name)))
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--directory", str(tmp_path)]
    environment = {"PATH": f"{Path(sys.executable).parent}:{tools}", "HOME": str(tmp_path)}
    target = ["results/figures/figure1_network.png", *SMALLEST]
    done = subprocess.run([*command, *target], capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 1
    assert "--profile slurm: there is no sbatch here; start on a login node" in done.stderr
    assert "Traceback" not in done.stderr


PLANTED = ("PLANTEDname", "PLANTEDid", "PLANTEDinstitute", "PLANTEDdescription", "PLANTEDcomment")


def hostile_cohort(folder: Path) -> None:
    """Write scans with names in every field that can hold one, two of them faulty, and their table as Windows does."""
    data = folder / "Däta (1)"
    data.mkdir(parents=True)
    hu = np.full((24, 48, 48), -1000, np.int16)
    hu[:, 8:40, 8:40] = 20
    hu[6:18, 12:30, 12:30] = 60
    tags = {
        "PatientName": PLANTED[0],
        "PatientID": PLANTED[1],
        "PatientBirthDate": "19010203",
        "InstitutionName": PLANTED[2],
        "StudyDescription": PLANTED[3],
        "SeriesDescription": PLANTED[3],
        "ImageComments": PLANTED[4],
    }
    rows = []
    for number, split in enumerate(["pool"] * 4 + ["val"] * 2 + ["test"] * 3):
        image, label = data / f"ct {number}", data / f"mask {number}.nii.gz"
        noise = np.random.default_rng(number).integers(-20, 20, hu.shape)
        write_series(image, hu + noise, **tags | {"PatientID": f"{PLANTED[1]}{number % 8}"})
        scan = read_scan(image)
        mask = nibabel.Nifti1Image((hu == 60).astype(np.uint8).T, ras(scan.grid))
        mask.header["descrip"], mask.header["db_name"], mask.header["aux_file"] = PLANTED[3], PLANTED[1], PLANTED[0]
        mask.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", PLANTED[4].encode()))
        nibabel.save(mask, label)
        rows.append((f"v{number}", f"p{number}", "site", split, str(image), str(label)))
    (data / "ct 1/i0004.dcm").write_bytes((data / "ct 1/i0004.dcm").read_bytes()[:900])
    broken = nibabel.load(data / "mask 6.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros(broken.shape, np.uint8), broken.affine), data / "mask 6.nii.gz")
    header = "volume\tpatient\tsite\tsplit\timage\tlabel"
    table = "\r\n".join([header, *("\t".join(row) for row in rows)]) + "\r\n"
    (folder / "cohort.tsv").write_bytes(b"\xef\xbb\xbf" + table.encode())


def contents(root: Path) -> dict[Path, bytes]:
    """Return every file under a folder, unpacked."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found[path] = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    return found


@pytest.mark.slow
def test_faulty_volumes_stop_the_run_or_only_themselves_and_no_name_gets_out(tmp_path: Path) -> None:
    """From scans to metrics: two faulty volumes of nine are left out, and no word of a header is in any file."""
    hostile_cohort(tmp_path)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        "{cohort: cohort.tsv, strategies: [uss], iterations: 1, slices_per_iteration: 4, "
        "preprocessing: {spacing: [5, 2, 2]}}"
    )
    whole = [*SMALLEST, str(overlay)]
    targets = ["results/cohort_report.html", "results/evaluation/metrics.tsv", "results/tables/table1_cohort.html"]
    output = snakemake(tmp_path, *targets, *whole, code=1)
    assert "cohort.tsv, see results/faults.html: 2 faults" in output
    assert (tmp_path / "results/faults.html").exists()
    assert "row 3, column image" in output
    assert "row 8, column label" in output
    assert not (tmp_path / "results/preprocessed").exists()
    output += snakemake(tmp_path, *targets, *whole, "--config", "on_fault=exclude")
    assert not (tmp_path / "results/faults.html").exists()
    metrics = pd.read_csv(tmp_path / "results/evaluation/metrics.tsv", sep="\t")
    assert set(metrics["volume"]) == {"v7", "v8"}
    cohort = read_table(tmp_path / "results/cohort/cohort.tsv")
    assert cohort.loc[cohort["exclude"] != "", "volume"].tolist() == ["v1", "v6"]
    page = (tmp_path / "results/cohort_report.html").read_text()
    assert "v1: faulty image: " in page
    assert "v6: faulty label: the liver mask is empty" in page
    assert "7 volumes" in page
    assert "2 faulty volumes left out" in page
    assert "its file names the patient that v0 names" in page  # v8, number 8 of 8

    written = contents(tmp_path / "results") | contents(tmp_path / ".snakemake")
    assert len(written) > 50
    for word in (*PLANTED, "PLANTED", "19010203"):
        assert word not in output
        for path, content in written.items():
            assert word.encode() not in content, path
            assert word.encode("utf-16-le") not in content, path
            assert word not in path.name
