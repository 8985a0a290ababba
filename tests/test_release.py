"""What is released: files without a repository, which install and plan a run by themselves."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from checkouts import checkout
from conftest import ROOT, job_counts
from slicesampling import VERSION


def test_version_citation_and_changelog_agree() -> None:
    """The version is said by the package, from which pyproject.toml takes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "slicesampling.VERSION"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == VERSION
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sections[0] == VERSION
    assert len(set(sections)) == len(sections)


def test_the_catalog_finds_what_it_asks_for() -> None:
    """The rules of the Snakemake workflow catalog for standardized usage; `make lint` has those for lint and format."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    for path in ("workflow/Snakefile", "config/README.md", "config/config.yaml"):
        assert (ROOT / path).is_file(), path
    assert {path.suffix for path in (ROOT / "workflow/rules").iterdir()} == {".smk"}
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    offered = {name for name, works in usage["software-stack-deployment"].items() if works}
    deployed = {"conda"} if any("conda:" in path.read_text() for path in (ROOT / "workflow/rules").iterdir()) else set()
    assert offered == deployed


@pytest.mark.slow
def test_a_release_plans_the_demo_without_a_repository(tmp_path: Path) -> None:
    """The files of the repository alone, in an environment that has the packages, but not the library."""
    release = checkout(tmp_path / "a release")
    venv.create(release / ".venv", symlinks=True)
    python = release / ".venv/bin/python"
    packages = sysconfig.get_path("purelib", vars={"base": str(release / ".venv")})
    (Path(packages) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*arguments: str) -> str:
        done = subprocess.run([str(python), *arguments], cwd=release, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    install = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--editable", "."]
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *install)
    assert run("-c", "import slicesampling; print(slicesampling.__file__)").startswith(str(release))
    planned = run("-m", "snakemake", "--profile", "demo", "--dry-run", "--quiet", "rules")
    here = [sys.executable, "-m", "snakemake", "--profile", "demo", "--dry-run", "--quiet", "rules"]
    there = subprocess.run(
        [*here, "--directory", str(tmp_path / "checkout")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert job_counts(planned) == job_counts(there.stdout + there.stderr)
    assert "slicesampling" in run(".venv/bin/slicesampling", "--help")
