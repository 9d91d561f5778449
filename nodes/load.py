"""Load FlashWorld Model: a file of the model folder, or the embedded model, as a FLASHWORLD_MODEL."""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path

from ..flashworld_core.errors import FlashWorldError
from . import sockets
from .comfyui import api, folders, run
from .comfyui.api import io
from .comfyui.run import NodeRun

TITLE = "Load FlashWorld Model"
EMBEDDED = "flashworld-tiny (embedded)"
DTYPES = {"auto": None, "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
REPOSITORY = "imlixinyang/FlashWorld on Hugging Face"
LICENSE_NOTE = "its license allows research use only; read it there before you download"


class LoadModel(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_LoadModel",
            display_name=TITLE,
            category="FlashWorld",
            description="Opens a FlashWorld model for Generate Scene. The weights go to the graphics card only when "
            "they are used, and leave it when ComfyUI needs the room.",
            search_aliases=["flashworld", "3d scene model", "gaussian splat model"],
            inputs=[
                api.input(
                    io.Combo,
                    "model",
                    options=[EMBEDDED, *folders.model_files()],
                    tooltip="Which weights make the scene. The embedded tiny model is small and knows simple rooms of "
                    "colored shapes: for trying things out. Photographs want the official FlashWorld model.ckpt in "
                    "models/flashworld (research license).",
                ),
                api.input(
                    io.Combo,
                    "dtype",
                    options=list(DTYPES),
                    default="auto",
                    tooltip="Precision of the numbers. auto takes what your device is good at. bf16 and fp16 take half "
                    "the memory of fp32; fp16 can fail on scenes where bf16 does not.",
                ),
                api.input(
                    io.Vae,
                    "vae",
                    optional=True,
                    tooltip="The Wan 2.2 VAE, which turns pictures into what the model reads. Left open, it is looked "
                    "for beside the model and in the vae folder.",
                ),
                api.input(
                    io.Clip,
                    "clip",
                    optional=True,
                    tooltip="The UMT5-XXL text encoder (Load CLIP, type wan), which reads the prompt. Left open, it is "
                    "looked for beside the model and in the text_encoders folder.",
                ),
            ],
            outputs=[api.output(api.Model, "model", tooltip="The opened model, for Generate Scene.")],
        )

    @classmethod
    def validate_inputs(cls, model):
        """True, or what to do about a file that is not there (the host's own message would not say)."""
        try:
            return model_path(model) is not None
        except FlashWorldError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, model, dtype="auto", vae=None, clip=None):
        """Another file under the same name is another model."""
        return "|".join(_stamp(path) for path in _files(model))

    @classmethod
    def execute(cls, model, dtype="auto", vae=None, clip=None):
        with NodeRun(TITLE) as run:
            sockets.checked_choice("dtype", dtype, DTYPES)
            return run.output(load(run, model, dtype, vae, clip))


def load(run: NodeRun, name: str, dtype: str, vae=None, clip=None):
    """The `memory.LoadedModel` of a name from the list.

    Raises:
        FlashWorldError: no such file, not a FlashWorld model, parts that are missing or do not fit.
        Cancelled: the user stopped it.
    """
    import torch

    from ..flashworld_core.generators.flashworld import checkpoint
    from ..flashworld_core.models.wan_vae import find_vae
    from .comfyui import memory
    from .comfyui.encoders import SocketEncoder, SocketText

    path = model_path(name)
    folder, weights, manifest = checkpoint.open_checkpoint(path)
    config = checkpoint.config_of(manifest)
    run.say_now("\n".join(facts(weights, manifest, dtype)))
    if vae is None:
        vae_part = find_vae(folder) or folders.find_model("vae", _is_wan_vae)
        if vae_part is None:
            raise _missing_vae()
    else:
        vae_part = SocketEncoder(vae, config)
        run.say("The VAE input gives the mean of what FlashWorld samples: scenes differ a little from its own VAE.")
    text = SocketText(clip, config) if clip is not None else None
    if clip is None and not _text_beside(folder) and config.transformer.text_dim == 4096:
        text = folders.find_model("text_encoders", _is_umt5)
        if text is None:
            run.say("No text encoder found: connect clip, or give Generate Scene a conditioning.")

    # Host prompts run in inference mode; tensors made there could not be used elsewhere later.
    with torch.inference_mode(False), torch.no_grad():
        model = checkpoint.load(
            path,
            dtype=memory.dtype_for(_torch_dtype(DTYPES[dtype]), _torch_dtype(manifest.compute_dtype)),
            device=memory.management.unet_offload_device(),
            vae=vae_part,
            text_encoder=text,
            progress=run.part(0.0, 1.0),
            should_stop=run.should_stop,
        )
        return memory.LoadedModel(model)


def facts(weights, manifest, dtype: str) -> list[str]:
    """What to know of a model before it runs: what it is, its license, and the memory it will need.

    Args:
        weights, manifest: from `checkpoint.open_checkpoint`.
        dtype: one of `DTYPES`.
    """
    from ..flashworld_core.generators.flashworld.checkpoint import config_of
    from .comfyui import memory

    config, device = config_of(manifest), memory.management.get_torch_device()
    count = sum(math.prod(entry.shape) for entry in weights.entries.values())
    precision = memory.dtype_for(_torch_dtype(DTYPES[dtype]), _torch_dtype(manifest.compute_dtype))
    return [
        f"{config.model_id}: {count / 1e6:,.0f} million numbers, made for {config.views} views of "
        f"{config.width}x{config.height} in {len(config.timestep_indices)} steps",
        f"License: {manifest.license or 'the file names none'}",
        *plan_lines(config, device, precision),
    ]


def _torch_dtype(name: str | None):
    import torch

    return None if name is None else getattr(torch, name)


def model_path(name: str) -> Path:
    """Where the model of a name from the list is.

    Raises:
        FlashWorldError: nowhere; says what to put where.
    """
    from ..flashworld_core.generators.base import EMBEDDED as embedded

    if name == EMBEDDED:
        return embedded["tiny"]
    path = folders.model_file(name)
    if path is None:
        raise FlashWorldError(
            f"there is no model file {name!r}. Put FlashWorld's model.ckpt ({REPOSITORY}; {LICENSE_NOTE}) into "
            f"{folders.model_folder()}, press R to refresh the list, and choose it; or choose {EMBEDDED!r}."
        )
    return path


def plan_lines(config, device, dtype) -> list[str]:
    """The memory a generation at the model's own size needs, in words."""
    from .comfyui import memory

    plan = memory.plan_for(config, device, dtype)
    precision = str(plan.dtype).removeprefix("torch.")
    return [
        f"Memory in {precision} at that size: {_size(plan.peak(()))} with one network loaded at a time, "
        f"{_size(plan.peak())} with all of them",
        *(
            []
            if plan.device_type == "cpu"
            else ["A smaller card can keep part of the transformer in main memory: slower"]
        ),
        *(
            f"- {stage.stage}: {_size(stage.weights)} of weights, {_size(stage.activations + stage.held)} to work with"
            for stage in plan.stages
            if stage.stage not in ("renderer", "world")
        ),
    ]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def _files(name: str) -> list[Path]:
    """The files a model is read from, as far as they exist."""
    try:
        path = model_path(name)
    except FlashWorldError:
        return []
    return [path / "config.json", path / "model.safetensors"] if path.is_dir() else [path]


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return f"{path} missing"
    return f"{path} {status.st_mtime_ns} {status.st_size}"


def _text_beside(folder: Path) -> bool:
    from ..flashworld_core.generators.flashworld.checkpoint import find_text_encoder

    return find_text_encoder(folder) is not None


def _is_wan_vae(name: str) -> bool:
    return name.lower().startswith(("wan2.2_vae", "wan2_2_vae", "wan22_vae"))


def _is_umt5(name: str) -> bool:
    return name.lower().startswith("umt5") and name.lower().endswith(".safetensors")


def _missing_vae() -> FlashWorldError:
    return FlashWorldError(
        "the model needs the Wan 2.2 VAE. Connect Load VAE to the vae input, or put wan2.2_vae.safetensors "
        "(Comfy-Org/Wan_2.2_ComfyUI_Repackaged on Hugging Face, Apache-2.0) into ComfyUI's models/vae folder and run "
        "again."
    )


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
