"""One execution of a node: its progress bar, previews and text, Cancel, and errors that begin with the node's name."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
from comfy.cli_args import args
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...flashworld_core.errors import Cancelled, FlashWorldError
from ...flashworld_core.text import get_logger, printable
from .api import NodeOutput

TEXT_EVENT = "flashworld.text"  # to the browser: what a running node says now; see web/widgets/result_text.mjs
TEXT_KEY = "flashworld_text"  # of a node's ui output: the lines that stay

logger = get_logger(__name__)


class NodeRun:
    """``with NodeRun("Render Scene Views") as run: ...`` around the work of ``execute``.

    Inside, hand ``run.progress`` and ``run.should_stop`` to the core. Leaving it, Cancel becomes the host's own
    interrupt and an error of ours names the node.

    Attributes:
        node_id: the host's id of the running node ("7", or "3:7" inside a subgraph); None outside an execution.
        lines: what has been said with `say`; `output` leaves it on the node.
    """

    def __init__(self, title: str):
        self.title = title
        context = get_executing_context()
        self.node_id = None if context is None else context.node_id
        self.lines: list[str] = []
        self._bar = None
        self._logged = -1

    def __enter__(self) -> NodeRun:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, Cancelled):
            comfy.model_management.throw_exception_if_processing_interrupted()
        if isinstance(error, FlashWorldError):
            raise FlashWorldError(f"{self.title}: {error}") from error

    @staticmethod
    def should_stop() -> bool:
        """Whether the user pressed Cancel."""
        return comfy.model_management.processing_interrupted()

    def progress(self, done: int, total: int, preview=None) -> None:
        """Move the bar on the node.

        Args:
            done, total: any unit, rising.
            preview: optional picture for the node, [H, W, 3] float in [0, 1].
        """
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total, None if preview is None else _jpeg(preview))
        tenth = 10 * done // max(total, 1)
        if tenth != self._logged:  # the log gets every tenth, not every view
            self._logged = tenth
            logger.info("%s: %d of %d", self.title, done, total)

    def part(self, begin: float, end: float):
        """A ``progress`` that fills the bar from ``begin`` to ``end`` (fractions), for work of several parts."""

        def progress(done: int, total: int, preview=None) -> None:
            self.progress(round(1000 * (begin + (end - begin) * done / max(total, 1))), 1000, preview)

        return progress

    def say(self, text: str) -> None:
        """Show a line of text (`printable`) in the log, and on the node, where it stays after the run."""
        text = printable(text)
        self.lines.append(text)
        self.say_now(text)

    def say_now(self, text: str) -> None:
        """Show a line of text in the log, and on the node until it says something else."""
        text = printable(text)
        logger.info("%s: %s", self.title, text)
        if self.node_id is not None:
            send(TEXT_EVENT, {"node": self.node_id, "text": text})

    def output(self, *values, ui: dict | None = None) -> NodeOutput:
        """The result of ``execute``: the values of the node's sockets, and what it has said.

        Args:
            ui: more for the frontend, as for ``NodeOutput``.
        """
        return NodeOutput(*values, ui={**(ui or {}), TEXT_KEY: self.lines})


def send(event: str, data: dict) -> None:
    """Send a JSON event to the browser that queued the running prompt (to all, where none is known)."""
    server = PromptServer.instance
    server.send_sync(event, data, getattr(server, "client_id", None))


def route(method: str, path: str):
    """Decorator: serve ``async handler(request)`` at ``path``; nothing where there is no server (a test, a tool)."""
    instance = getattr(PromptServer, "instance", None)
    return (lambda handler: handler) if instance is None else getattr(instance.routes, method)(path)


def metadata_disabled() -> bool:
    """Whether the user asked that no workflow goes into files."""
    return bool(getattr(args, "disable_metadata", False))


def _jpeg(preview):
    from PIL import Image

    from ...flashworld_core.media.export import to_bytes

    return "JPEG", Image.fromarray(to_bytes(preview)), getattr(args, "preview_size", 512)
