"""The command line: ``python -m flashworld_core`` (or ``flashworld``, once installed)."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from .. import __version__
from ..errors import Cancelled, FlashWorldError, is_out_of_memory, out_of_memory
from ..runtime.threads import set_short_spin
from ..text import printable
from .interrupts import STOPPED, Interrupts
from .terminal import safe_streams

_NAMED = 4  # files of one folder that a message names one by one


class _Parser(argparse.ArgumentParser):
    """Without the colors of Python 3.14, which would be escaped like anyone's (`terminal`)."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.color = False


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; each leaves its function in ``options.run``."""
    from . import checkpoint, convert, demo, generate, info, plan, render

    parser = _Parser(
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
    with safe_streams():
        return _main(argv)


def _main(argv: list[str] | None) -> int:
    set_short_spin()
    options, written = None, []
    with Interrupts() as interrupts:
        try:
            options = build_parser().parse_args(argv)
            from ..formats.files import record_written

            logging.basicConfig(level=logging.DEBUG if options.debug else logging.WARNING, format="%(message)s")
            for name in ("PIL", "numba", "matplotlib", "libav"):
                logging.getLogger(name).setLevel(logging.WARNING)
            interrupts.watch()
            with record_written(written):
                options.run(options)
        except (KeyboardInterrupt, Cancelled):
            print("\nStopped; no file is half written." + (_left(written) or " Nothing was written."), file=sys.stderr)
            return STOPPED
        except (FlashWorldError, OSError, MemoryError, RuntimeError) as error:
            told = error
            if not isinstance(error, (FlashWorldError, OSError)):
                if not is_out_of_memory(error):
                    raise
                told = out_of_memory(error, "Use a smaller size, fewer views or a smaller scene.")
            if options is not None and options.debug:
                raise
            print(printable(f"flashworld: {told}{_left(written)}"), file=sys.stderr)
            return 1
    return 0


def _left(written: list[Path]) -> str:
    """What a command that did not end well has written: beside it, files of an earlier run may lie."""
    if not written:
        return ""
    folders: dict[Path, list[str]] = {}
    for path in written:
        folders.setdefault(path.parent, []).append(path.name)
    parts = []
    for folder, names in folders.items():
        named = ", ".join(names) if len(names) <= _NAMED else f"{names[0]} to {names[-1]} ({len(names)} files)"
        parts.append(f"in {folder} {named}")
    return f" Written by this run: {'; '.join(parts)}. All else there is as it was before."


def program() -> None:
    """The program ``flashworld``: run the command line and end the process.

    After an error or Ctrl-C it ends without taking the libraries apart, which takes seconds on a busy machine and
    aborts the process where one of them is still compiling.
    """
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM):  # all is written; what is left is Python's own end
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)
    sys.exit(0)
