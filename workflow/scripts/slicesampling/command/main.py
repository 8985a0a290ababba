"""The entry point `slicesampling`: dispatch to its commands, and help."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from .. import VERSION
from ..jobs.command import faults_in_one_line

COMMANDS = {
    "import": ("import_", "add the volumes of a data set to the cohort table"),
    "annotate": ("annotate", "serve the page on which people annotate the slices that wait"),
    "answers": ("answers", "show the progress of people, close a round, exchange answers with other tools"),
    "view": ("view", "serve a page that shows the volumes of a run"),
    "export": ("export", "write the masks that a model predicted, on the grids of the original files"),
    "pick": ("pick", "pick what to annotate next by the maps of any ensemble, without a run"),
    "evaluate": ("evaluate", "evaluate a folder of masks as the workflow evaluates its own models"),
}
"""The module in this package, and the description, of each command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command in `arguments`, without the program's name; None: those of this process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    listed = "\n".join(f"  {name:<10}{about}" for name, (_, about) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="slicesampling",
        usage="slicesampling COMMAND ...",
        description="Commands beside Snakemake, which runs the experiment.",
        epilog=f"commands:\n{listed}\n\nexample: slicesampling import --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below; each has a --help")
    parser.add_argument("--version", action="version", version=f"slicesampling {VERSION}")
    chosen = parser.parse_args(given[:1])
    module, about = COMMANDS[chosen.command]
    command = importlib.import_module(f".{module}", __package__)
    own = argparse.ArgumentParser(
        prog=f"slicesampling {chosen.command}",
        description=f"{about[0].upper()}{about[1:]}.",
        epilog=command.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(own)
    try:
        with faults_in_one_line():
            command.run(own.parse_args(given[1:]))
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
