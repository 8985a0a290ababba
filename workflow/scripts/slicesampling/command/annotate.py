"""`slicesampling annotate`: the page on which people annotate the slices of the open round."""

import argparse
import logging
from pathlib import Path

from .. import UserError
from ..answers.rounds import work_list
from ..cohort.volumes import all_volume_folders
from ..configuration import read_configuration
from ..domain.records import read_table, write_table
from ..jobs.files import replacing
from ..jobs.randomness import generator
from ..page.server import PORT, serve
from ..page.work import Work

EPILOG = """example: slicesampling annotate --configfile my.yaml"""

DEMO_ROUND, DEMO_SLICES = "uss-1", 12
"""The round of the demo, and the number of its slices: the highest ranks of the run's first query."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="as given to snakemake")
    parser.add_argument("--directory", type=Path, default=Path(), help="as given to snakemake (default: the current)")
    parser.add_argument(
        "--demo",
        type=Path,
        nargs="?",
        const=Path("../annotate-demo"),
        metavar="FOLDER",
        help="try the page on slices of a finished simulated run; answers go to FOLDER (default: %(const)s)",
    )
    parser.add_argument("--port", type=int, help=f"port on this machine (default: {PORT}, or a free one)")


def run(options: argparse.Namespace) -> None:
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    config = read_configuration(options.configfile)
    if options.demo:
        serve_demo(config, options.directory / "results", options.demo, options.port)
        return
    if config.get("annotator") != "people":
        raise UserError(f"annotator is {config.get('annotator')!r}; accepted for this page: people")
    people = config["people"]
    answers = options.directory / people["answers"]
    work = Work(options.directory / "results", answers, people["reserved_minutes"])
    if not work.rounds():
        raise UserError(f"{options.directory / 'results/work_lists'}: has no work list; run snakemake first")
    serve(work, answers, options.port)


def serve_demo(config: dict, results: Path, folder: Path, port: int | None) -> None:
    """Serve slices of a simulated run in `results` as a demo; answers are only written to `folder`."""
    if folder.resolve().is_relative_to(results.resolve()):
        raise UserError(f"--demo {folder}: is in {results}; accepted: a folder outside of it")
    if (folder / "results/work_lists").exists():
        print(f"Continuing with {folder}. Delete this folder to start again.")
    else:
        prepare_demo(config, results, folder)
    answers = folder / "annotations"
    print(f"This is a demo: answers go to {answers}, and are not used for training.")
    serve(Work(folder / "results", answers, config["people"]["reserved_minutes"]), answers, port)


def prepare_demo(config: dict, results: Path, folder: Path) -> None:
    """Write the inputs of the page to `folder`: a link to the volumes of `results`, proposals, and last a work list."""
    seed = config["seeds"][0]
    query = results / f"queries/seed{seed}/{DEMO_ROUND}.tsv"
    path = results / f"models/seed{seed}/initial/model.pt"
    for needed in (query, path, results / "preprocessed"):
        if not needed.exists():
            raise UserError(f"{needed}: does not exist; run make demo first")
    from ..learning.compute import computing
    from ..learning.networks.interface import load_model, write_proposals

    random = generator(seed, "uss", 1, "work list")
    asked = read_table(query).nsmallest(DEMO_SLICES, "rank")
    asked = work_list(asked, config["people"]["proposals"], 0, random)  # each for one annotator
    compute = computing(config["compute"])
    folders = all_volume_folders(results)
    names = asked.loc[asked["start"] == "proposal", "volume"].unique()
    (folder / "results").mkdir(parents=True, exist_ok=True)
    link = folder / "results/preprocessed"
    link.unlink(missing_ok=True)
    link.symlink_to((results / "preprocessed").resolve())
    with replacing(folder / "results/proposals" / DEMO_ROUND) as proposals:
        proposals.mkdir()
        write_proposals(load_model(path, compute), names, folders, proposals)
    write_table(folder / f"results/work_lists/{DEMO_ROUND}.tsv", asked)
