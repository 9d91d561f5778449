"""Train, judge and export FlashWorld models: ``python -m flashworld_core.training COMMAND``, also under torchrun."""

from __future__ import annotations

import argparse
import logging
import sys
from importlib import import_module

from ..errors import Cancelled, FlashWorldError
from .cli import COMMANDS


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser of all commands; only ``command``'s own arguments are filled in, since that imports its module."""
    parser = argparse.ArgumentParser(prog="python -m flashworld_core.training", description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, about) in COMMANDS.items():
        sub = commands.add_parser(name, help=about, description=about)
        if name == command:
            found = import_module(module)
            found.add_arguments(sub)
            sub.set_defaults(run=found.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    command = next((word for word in argv if word in COMMANDS), None)
    options = build_parser(command).parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for name in ("PIL", "numba", "matplotlib", "httpx", "diffusers"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        options.run(options)
    except (KeyboardInterrupt, Cancelled):
        print("Stopped; the last checkpoint is whole.", file=sys.stderr)
        return 130
    except (FlashWorldError, OSError) as error:
        if options.debug:
            raise
        print(f"flashworld training: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
