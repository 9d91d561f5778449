"""Text by anyone on its way to a terminal, a log or a node: no character in it commands what shows it.

Names, prompts, comments and error texts of libraries come from files. Errors of ours (`errors`), what our loggers
write (`get_logger`) and what the commands print (`cli.terminal`) all go through `printable`.
"""

from __future__ import annotations

import logging
import re
import unicodedata

_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")


def printable(text: str, keep: str = "") -> str:
    """``text`` on one line, without characters that are no letters.

    Line breaks and tabs become a blank. Control characters, halves of characters, and marks that turn or hide the
    letters after them become escapes such as ``\\u001b``, which JSON reads back.

    Args:
        text: any.
        keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    if not keep:
        text = _BREAKS.sub(" ", text)
    return "".join(c if c.isprintable() or c in keep or unicodedata.category(c) == "Zs" else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def get_logger(name: str) -> logging.Logger:
    """The logger of a module, whose messages are `printable`."""
    logger = logging.getLogger(name)
    if not any(isinstance(present, _Printable) for present in logger.filters):
        logger.addFilter(_Printable())
    return logger


class _Printable(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), None
        return True
