"""The workflow as a module of another one: from a folder of this disk, and from a repository on a host."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import ROOT, SMALLEST, job_counts, snakemake

REPOSITORY = "https://github.com/owner/slicesampling"


def another_workflow(folder: Path, source: str, *lines: str) -> Path:
    """Write the workflow of a user into `folder`, which has all rules of `source` and the smallest configuration."""
    folder.mkdir(parents=True)
    shutil.copy(SMALLEST[1], folder / "smallest.yaml")
    module = [f"snakefile: {source}", "config: config", *lines]
    text = ["module slicesampling:", *(f"    {line}" for line in module), "use rule * from slicesampling", ""]
    (folder / "Snakefile").write_text("\n".join(['configfile: "smallest.yaml"', *text]))
    return folder


def run_there(folder: Path, *arguments: str, environment: dict[str, str] | None = None, code: int = 0) -> str:
    """Run Snakemake in `folder`, as a user does who is there."""
    command: Sequence[str] = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    changed = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=folder, env=changed, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_a_module_from_any_folder_plans_the_same_jobs(tmp_path: Path) -> None:
    planned = run_there(another_workflow(tmp_path / "own", f'"{ROOT}/workflow/Snakefile"'), "--dry-run")
    direct = snakemake(tmp_path / "direct", *SMALLEST, "--dry-run")
    assert job_counts(planned) == job_counts(direct)
    assert job_counts(planned)["total"] > 80


@pytest.mark.parametrize("line", ['prefix: "mine"', 'replace_prefix: {"results/": "mine/"}'])
def test_a_module_whose_paths_are_changed_is_refused(tmp_path: Path, line: str) -> None:
    folder = another_workflow(tmp_path / "own", f'"{ROOT}/workflow/Snakefile"', line)
    assert "prefix and replace_prefix of a module are not supported" in run_there(folder, "--dry-run", code=1)


@pytest.mark.slow
def test_a_module_in_folders_with_a_blank_gives_the_same_tables(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "the source"
    source.symlink_to(ROOT)
    folder = another_workflow(tmp_path / "else where", f'"{source}/workflow/Snakefile"')
    run_there(folder)
    tables = sorted(path.name for path in (run / "results/tables").iterdir())
    assert sorted(path.name for path in (folder / "results/tables").iterdir()) == tables
    for name in tables:
        assert (folder / "results/tables" / name).read_bytes() == (run / "results/tables" / name).read_bytes(), name


@pytest.mark.slow
def test_a_module_from_a_repository_uses_the_installed_library(run: Path, tmp_path: Path) -> None:
    """git takes the repository on a host from this disk; the rest is what Snakemake does with any other."""
    repository = tmp_path / "repository"
    for name in ("workflow", "config"):
        shutil.copytree(ROOT / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-q", "-m", "All"], ["tag", "v1"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    environment = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY,
    }
    source = 'github("owner/slicesampling", path="workflow/Snakefile", tag="v1")'
    folder = another_workflow(tmp_path / "own", source)
    history = "results/models/seed1/initial/history.tsv"
    run_there(folder, history, environment=environment)
    columns = [line.split("\t")[:4] for line in (folder / history).read_text().splitlines()]
    assert columns == [line.split("\t")[:4] for line in (run / history).read_text().splitlines()]

    version = repository / "workflow/scripts/slicesampling/__init__.py"
    version.write_text(version.read_text() + "\n# Another version.\n")
    for words in (["commit", "-q", "-a", "-m", "Another"], ["tag", "v2"]):
        subprocess.run(["git", *identity, *words], cwd=repository, check=True)
    other = another_workflow(tmp_path / "other", source.replace("v1", "v2"))
    output = run_there(other, "--dry-run", environment=environment, code=1)
    assert "slicesampling has to be installed, of the version of the module" in output
