"""The library of this workflow, and no other: what rules and scripts import."""

import importlib.util

# An installed library comes first, wherever the workflow lies.
found = importlib.util.find_spec("slicesampling")

if isinstance(workflow.current_basedir, os.PathLike):
    LIBRARY = Path(workflow.current_basedir).resolve().parent / "scripts"
    if found and not Path(found.origin).resolve().is_relative_to(LIBRARY):
        raise WorkflowError(
            f"slicesampling is installed from {Path(found.origin).parent}, and is not the library of this workflow, "
            f"{LIBRARY / 'slicesampling'}; run `make .venv` here and use its snakemake, or pip uninstall slicesampling"
        )
    sys.path.insert(0, str(LIBRARY))
else:
    # A module from a repository elsewhere: of its library only what is installed is on this disk.
    version = Path(workflow.source_path("../scripts/slicesampling/__init__.py"))
    # Snakemake takes files from a repository without their last newline.
    if (
        not found
        or Path(found.origin).read_text().strip() != version.read_text().strip()
    ):
        raise WorkflowError(
            "slicesampling has to be installed, of the version of the module; see docs/module.md of its repository"
        )

# Scripts and pages know the folder results/ by its name.
if workflow.modifier.path_modifier.replace_prefix("results/") != "results/":
    raise WorkflowError(
        "prefix and replace_prefix of a module are not supported; give the module a working folder of its own"
    )
