"""What the loader shows of a model before it runs: its licence and the memory it will need, for the browser."""

from __future__ import annotations

import asyncio
import logging

from ..flashworld_core.errors import FlashWorldError
from .host import folders, run
from .load import DTYPES, EMBEDDED, facts, model_path

logger = logging.getLogger(__name__)


def model_info(name: str, dtype: str = "auto") -> dict:
    """Facts about a model of the loader's list; only the header of its file is read.

    Returns:
        ``license``, ``summary``, ``plan`` (lines) and ``error`` (empty where there is none). Names that are not on the
        list are refused without looking for a file.
    """
    info = {"license": "", "summary": "", "plan": [], "error": ""}
    if name != EMBEDDED and name not in folders.model_files():
        return info | {"error": "There is no such model in the list; press R to refresh it."}
    if dtype not in DTYPES:
        return info | {"error": f"dtype must be one of {', '.join(DTYPES)}."}
    from ..flashworld_core.generators.flashworld.checkpoint import open_checkpoint

    try:
        _, weights, manifest = open_checkpoint(model_path(name))
        summary, _, *plan = facts(weights, manifest, dtype)
    except FlashWorldError as error:
        return info | {"error": str(error)}
    return info | {"license": manifest.license, "summary": summary, "plan": plan}


@run.route("get", "/flashworld/model_info")
async def _answer(request):
    """``?model=<name of the list>&dtype=<auto|bf16|fp16|fp32>``; answers with `model_info`'s result as JSON."""
    from aiohttp import web

    name, dtype = request.query.get("model", ""), request.query.get("dtype", "auto")
    try:
        # In a thread: opening a large file and planning take seconds at worst, and the server has others to serve.
        return web.json_response(await asyncio.to_thread(model_info, name, dtype))
    except Exception:
        logger.exception("model_info failed for %r", name)
        return web.json_response({"error": "The model could not be read; ComfyUI's log says why."}, status=500)
