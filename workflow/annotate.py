"""Serve the page on which people annotate the slices of the open round; see --help."""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

import yaml
from slicesampling import UserError
from slicesampling.annotation.server import PORT, serve
from slicesampling.annotation.work import Work
from snakemake.utils import update_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(";")[0] + ".")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="as snakemake was given")
    parser.add_argument("--directory", type=Path, default=Path(), help="as snakemake was given (default: the current)")
    parser.add_argument("--port", type=int, help=f"of this machine (default: {PORT}, or a free one)")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    try:
        run(options)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print()


def run(options: argparse.Namespace) -> None:
    config: dict = {}
    for path in (Path(__file__).parents[1] / "config/config.yaml", *options.configfile):
        try:
            update_config(config, yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
    if config.get("annotator") != "people":
        raise UserError(f"annotator is {config.get('annotator')!r}; accepted for this page: people")
    people = config["people"]
    answers = options.directory / people["answers"]
    work = Work(options.directory / "results", answers, people["reserved_minutes"])
    if not work.rounds():
        raise UserError(f"{options.directory / 'results/work_lists'}: has no work list; run snakemake first")
    serve(work, answers, options.port)


if __name__ == "__main__":
    main()
