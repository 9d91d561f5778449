"""The command line: ``python -m flashworld_core`` (or ``flashworld``, once installed)."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from .. import __version__
from ..errors import Cancelled, FlashWorldError
from ..runtime.threads import set_short_spin
from .interrupts import STOPPED, Interrupts


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; each leaves its function in ``options.run``."""
    from . import checkpoint, convert, demo, generate, info, plan, render

    parser = argparse.ArgumentParser(
        prog="flashworld",
        description="Turn one picture or one sentence, plus a camera path, into a 3D Gaussian scene.",
        epilog="Exit codes: 0 done, 1 something is wrong with the input (one line says what), 2 wrong usage, "
        "130 stopped with Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"flashworld {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error and more of the log")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (generate, render, convert, info, plan, checkpoint, demo):
        module.add_command(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a file's name must not be what ends a finished command
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    set_short_spin()
    options = None
    with Interrupts() as interrupts:
        try:
            options = build_parser().parse_args(argv)
            logging.basicConfig(level=logging.DEBUG if options.debug else logging.WARNING, format="%(message)s")
            for name in ("PIL", "numba", "matplotlib", "libav"):
                logging.getLogger(name).setLevel(logging.WARNING)
            interrupts.watch()
            options.run(options)
        except (KeyboardInterrupt, Cancelled):
            print("\nStopped; no file is half written.", file=sys.stderr)
            return STOPPED
        except (FlashWorldError, OSError) as error:
            if options is not None and options.debug:
                raise
            print(f"flashworld: {error}", file=sys.stderr)
            return 1
    return 0


def program() -> None:
    """The program ``flashworld``: run the command line and end the process.

    After an error or Ctrl-C it ends without taking the libraries apart, which takes seconds on a busy machine and
    aborts the process where one of them is still compiling.
    """
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)
    sys.exit(0)
