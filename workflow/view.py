"""Serve a page on which the volumes of a run that has ended can be looked at; see --help."""

import argparse
import logging
import secrets
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slicesampling import UserError
from slicesampling.annotation.server import PORT, listen
from slicesampling.annotation.viewing import Run, make_viewer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(";")[0] + ".")
    parser.add_argument("--results", type=Path, default=Path("results"), help="of the run (default: results)")
    parser.add_argument("--port", type=int, help=f"of this machine (default: {PORT}, or a free one)")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    token = secrets.token_urlsafe(32)
    try:
        listen(make_viewer(Run(options.results), token), token, options.port)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
