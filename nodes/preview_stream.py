"""Scenes on their way to the viewer in the browser: stream files in the temp folder and the event that names them."""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from pathlib import Path
from typing import Any

from torch import Tensor

from ..flashworld_core.cameras import Cameras
from ..flashworld_core.formats.scenes.stream import StreamInfo, poses_of, write_stream
from ..flashworld_core.gaussians import Gaussians
from .comfyui import folders
from .comfyui.run import send

EVENT = "flashworld.scene"
EXTENSION = ".fws"
MAX_VIEWPOINTS = 8  # of a path, when the most important Gaussians are chosen; more take longer and change little
KEPT_STEPS = 2  # files of steps left for a slow browser; older ones are removed

_steps: dict[str, deque[Path]] = {}  # node id: its step files
_written: weakref.WeakKeyDictionary[Any, dict] = weakref.WeakKeyDictionary()  # by SPLAT, budget and viewpoints


def send_scene(
    node_id: str | None,
    gaussians: Gaussians,
    *,
    step: int | None = None,
    steps: int | None = None,
    budget: int,
    total: int | None = None,
    final: bool = False,
    cameras: Cameras | None = None,
) -> None:
    """Show a scene in the browser while the node that makes it still runs.

    Args:
        node_id: the running node ("7", or "3:7" in a subgraph); None outside an execution, and nothing is sent.
        gaussians: the scene so far.
        step, steps: which step it is after, counted from 0, of how many.
        budget: Gaussians to send at most; a few hundred thousand arrive at once on any machine.
        total: Gaussians of the whole scene, where ``gaussians`` is a choice of them.
        final: no more are coming from this run.
        cameras: the camera path; needed until the preview has one.

    Raises:
        FlashWorldError: the temp folder cannot be written.
    """
    if node_id is None:
        return
    path, file = folders.temp_file(EXTENSION)
    info = write_stream(path, gaussians, budget=budget, metadata=_metadata(gaussians))
    recent = _steps.setdefault(node_id, deque())
    recent.append(path)
    while len(recent) > KEPT_STEPS:
        # On Windows a file that is being sent cannot go; the host empties the folder at its next start.
        with contextlib.suppress(OSError):
            recent.popleft().unlink(missing_ok=True)
    poses = {} if cameras is None else {"cameras": poses_of(cameras)}
    counts = {"count": info.count, "total": info.total if total is None else total}
    send(EVENT, {"node": node_id, "step": step, "steps": steps, "file": file, **counts, "final": final, **poses})


def scene_file(
    splat: Any, gaussians: Gaussians, budget: int, viewpoints: Tensor | None, should_stop=None
) -> tuple[StreamInfo, dict]:
    """The stream of a scene that is to stay on show, and how /view finds it; written once per SPLAT, budget and path.

    Args:
        viewpoints: [P, 3] where it will be looked at from, as in `write_stream`; None if nobody knows.

    Raises:
        FlashWorldError: the temp folder cannot be written.
        Cancelled: ``should_stop`` answered True.
    """
    try:
        known = _written.setdefault(splat, {})
    except TypeError:  # another pack's value that cannot be remembered
        known = {}
    if viewpoints is not None:
        viewpoints = viewpoints[:: -(-len(viewpoints) // MAX_VIEWPOINTS)]
    key = budget, None if viewpoints is None else tuple(viewpoints.flatten().tolist())
    info, file, path = known.get(key, (None, None, None))
    if path is None or not path.is_file():
        path, file = folders.temp_file(EXTENSION)
        info = write_stream(
            path,
            gaussians,
            budget=budget,
            metadata=_metadata(gaussians),
            viewpoints=viewpoints,
            should_stop=should_stop,
        )
        known[key] = info, file, path
    return info, file


def _metadata(gaussians: Gaussians) -> dict:
    """What the viewer uses; the rest (hashes, seeds) stays here."""
    from ..flashworld_core.gaussians import FOCAL_PX

    return {name: gaussians.metadata[name] for name in (FOCAL_PX,) if name in gaussians.metadata}
