"""Law of the library's packages: a module imports from its own package and from those below it, and from no other."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

LIBRARY = ROOT / "workflow/scripts/slicesampling"
PACKAGES = [
    "",
    "jobs",
    "domain",
    "phantom",
    "cohort",
    "query",
    "answers",
    "page",
    "learning",
    "evaluation",
    "publication",
    "top",
    "command",
]
"""From the bottom up: the library's own __init__, which imports none; its packages; and its modules beside them."""
APART = {"phantom", "cohort", "query", "answers", "page", "learning"}
"""Packages that do not import each other, but for `ASIDE`."""
ASIDE = {("learning", "cohort"), ("answers", "cohort"), ("answers", "query"), ("page", "cohort"), ("page", "answers")}


def package_of(module: str) -> str:
    """Return the package of a module of the library by its full name; "" for the library's own __init__."""
    first = [*module.split("."), ""][1]
    return first if not first or (LIBRARY / first).is_dir() else "top"


def imported(path: Path, library: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of whatever a file of the library imports of it, anywhere in the file."""
    package = ["slicesampling", *path.relative_to(library).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            # What is imported from a folder is a module of it, or what its __init__.py holds.
            folder = library.joinpath(*module.split(".")[1:])
            inside = [alias.name for alias in node.names if (folder / f"{alias.name}.py").exists()]
            inside += [alias.name for alias in node.names if (folder / alias.name / "__init__.py").exists()]
            names = [f"{module}.{name}" for name in inside] + [module] * (len(inside) < len(node.names))
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "slicesampling")


def faults(path: Path, library: Path) -> list[str]:
    """Return the imports of a file that lead up or sideways, a line each."""
    own = package_of(
        ".".join(["slicesampling", *path.relative_to(library).with_suffix("").parts]).removesuffix(".__init__")
    )
    found = []
    for line, name in imported(path, library):
        other = package_of(name)
        aside = {own, other} <= APART and (own, other) not in ASIDE
        if other != own and (PACKAGES.index(other) > PACKAGES.index(own) or aside):
            found.append(f"{path.relative_to(library)}, line {line}: {own or 'the package'} imports {name}")
    return found


def test_a_package_imports_only_from_packages_below() -> None:
    assert not [fault for path in sorted(LIBRARY.rglob("*.py")) for fault in faults(path, LIBRARY)]


def test_every_folder_is_a_package_and_its_tests_are_run() -> None:
    packages = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert packages == set(PACKAGES) - {"", "top"}
    assert all((path.parent / "__init__.py").exists() for path in LIBRARY.rglob("*.py"))
    assert {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} == packages | {"slurm"}
    paths = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert {f"tests/{name}" for name in packages} < set(paths["testpaths"])


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("jobs/job.py", "from ..learning.progress import Progress", True),
        ("jobs/job.py", "def f():\n    from slicesampling.learning import progress", True),
        ("jobs/job.py", "if TYPE_CHECKING:\n    import slicesampling.learning.progress", True),
        ("jobs/job.py", "from .. import learning", True),
        ("jobs/job.py", "from .. import UserError", False),
        ("__init__.py", "from .jobs import files", True),
        ("evaluation/records.py", "from ..plan import estimate", True),
        ("cohort/table.py", "from ..phantom.sites import plan_cohort", True),
        ("learning/patches.py", "from ..query import ledger", True),
        ("learning/networks/aunet.py", "from ...answers import store", True),
        ("learning/networks/aunet.py", "from ..patches import TrainingSet", False),
        ("query/rules.py", "from ..answers.store import Answers", True),
        ("answers/exchange.py", "from ..page.server import listen", True),
        ("learning/patches.py", "from ..cohort.volumes import Preprocessed", False),
        ("answers/pictures.py", "from ..cohort.volumes import Preprocessed", False),
        ("cohort/volumes.py", "from ..query import ledger", True),
        ("publication/plots.py", "from . import style\nfrom ..jobs import files", False),
        ("plan.py", "from .publication.tables import paper_values\nfrom .configuration import shards", False),
    ],
)
def test_an_arrow_up_or_sideways_is_found(tmp_path: Path, module: str, line: str, wrong: bool) -> None:
    for path in LIBRARY.rglob("*.py"):
        copy = tmp_path / path.relative_to(LIBRARY)
        copy.parent.mkdir(exist_ok=True, parents=True)
        copy.touch()
    (tmp_path / module).write_text(line, encoding="utf-8")
    assert bool(faults(tmp_path / module, tmp_path)) == wrong


FILES = {"nibabel", "pydicom", "SimpleITK", "highdicom", "PIL"}
SLOW = {"scipy.stats", "scipy.signal", "statsmodels"}


@pytest.mark.parametrize(
    ("source", "unwanted"),
    [
        ("rules/common.smk", {"torch", "matplotlib", "scipy"} | FILES),
        ("scripts/annotate_volumes.py", {"torch", "matplotlib", "scipy"} | FILES),
        ("scripts/table.py", {"torch", "matplotlib"} | FILES | SLOW),
        ("scripts/plot.py", {"torch"} | (FILES - {"PIL"}) | SLOW),  # matplotlib imports PIL
        ("scripts/evaluate.py", {"torch", "matplotlib"} | SLOW),
    ],
)
def test_a_job_loads_no_package_that_it_does_not_use(source: str, unwanted: set[str]) -> None:
    """A run starts hundreds of jobs, and each of these packages takes as long as most of them work."""
    text = (ROOT / "workflow" / source).read_text(encoding="utf-8")
    imports = re.findall(r"^(?:from|import) [^(\n]*(?:\([^)]*\))?", text, flags=re.MULTILINE)
    program = "\n".join([*imports, "import json, sys", "print(json.dumps(list(sys.modules)))"])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=LIBRARY.parent, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "slicesampling" in loaded
    assert not loaded & unwanted
