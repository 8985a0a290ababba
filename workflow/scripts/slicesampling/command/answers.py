"""`slicesampling answers`: progress of people, closing of rounds, and exchange with other tools."""

import argparse
from pathlib import Path

from .. import UserError
from ..answers.exchange import export_round, import_round
from ..answers.nnunet_export import export_dataset
from ..answers.rounds import open_round, waiting
from ..answers.store import Answers
from ..cohort.nnunet_dataset import NUMBER

EPILOG = """example: slicesampling answers export to_draw, and after that
         slicesampling answers import to_draw --annotator Anna"""

NNUNET = "nnunet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    folders = argparse.ArgumentParser(add_help=False)
    folders.add_argument(
        "--answers", type=Path, default=Path("annotations"), help="people.answers of the configuration"
    )
    folders.add_argument("--results", type=Path, default=Path("results"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, function in COMMANDS.items():
        described = (function.__doc__ or "").strip()
        parser_of = commands.add_parser(command, parents=[folders], help=described, description=described)
        if function in (export, import_):
            parser_of.add_argument("folder", type=Path, help="with images, masks and the table of slices to draw")
        if function is export:
            parser_of.add_argument(
                "--to",
                choices=("tools", NNUNET),
                default="tools",
                help="tools: slices that wait; nnunet: annotated slices as a data set",
            )
            parser_of.add_argument("--ledger", metavar="NAME", help=f"{NNUNET}: the annotated set, such as uss-5")
            parser_of.add_argument("--seed", type=int, default=1, help=NNUNET)
            parser_of.add_argument("--dataset", type=int, default=NUMBER, help=f"{NNUNET}: its number")
        if function is import_:
            parser_of.add_argument("--annotator", required=True, metavar="NAME", help="the annotator")


def run(options: argparse.Namespace) -> None:
    if not options.results.exists():
        raise UserError(
            f"{options.results}: there is no such folder; start in the folder of the run, or give --results"
        )
    print(COMMANDS[options.command](options, Answers(options.answers)))


def status(options: argparse.Namespace, answers: Answers) -> str:
    """Show the closed rounds, and the slices that wait."""
    answers.write_closed()
    lines = [f"{name} is closed" for name in answers.closed]
    name = open_round(options.results / "work_lists", answers)
    if answers.finished:
        lines.append("people have ended the loop")
    elif name:
        lines.append(waiting(options.results / "work_lists", answers, name))
    return "\n".join(lines or ["no round has a work list yet: run Snakemake"])


def close(options: argparse.Namespace, answers: Answers) -> str:
    """Close the open round with what has been annotated so far."""
    if answers.finished:
        raise UserError(f"{answers.folder}/finished: people have ended the loop; delete this file to continue")
    name = open_round(options.results / "work_lists", answers)
    if name is None:
        raise UserError(f"{options.results}/work_lists: no round is open; run Snakemake for the next work list")
    if not answers.begun(name):
        raise UserError(
            f"{answers.folder}: round {name} has no answer yet; annotate a slice, or end the loop by finish"
        )
    return f"{answers.close(name)}: {name} is closed; now run Snakemake again"


def finish(options: argparse.Namespace, answers: Answers) -> str:
    """End the loop with what has been annotated so far."""
    name = open_round(options.results / "work_lists", answers)
    if name and answers.begun(name):
        answers.close(name)
    if not answers.closed and not list((options.results / "models").glob("seed*/initial/model.pt")):
        raise UserError(f"{answers.folder}: nothing is annotated, so that there is no model; annotate some slices")
    answers.finish()
    return f"{answers.folder}/finished: the loop has ended; now run Snakemake again"


def export(options: argparse.Namespace, answers: Answers) -> str:
    """Write the slices that wait for tools such as 3D Slicer and ITK-SNAP, or the annotated ones for nnU-Net."""
    if options.to == NNUNET:
        if not options.ledger:
            raise UserError(f"--to {NNUNET}: --ledger is needed, such as --ledger uss-5")
        arguments = (options.results, options.ledger, options.seed, answers.folder, options.dataset)
        return export_dataset(options.folder, *arguments)
    return export_round(options.folder, options.results, answers)


def import_(options: argparse.Namespace, answers: Answers) -> str:
    """Import the answers in such a folder, or nothing if it has any fault."""
    return import_round(options.folder, options.results, answers, options.annotator)


COMMANDS = {"status": status, "close": close, "finish": finish, "export": export, "import": import_}
