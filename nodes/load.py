"""Load FlashWorld Model: a file of the model folder, or the embedded model, as a FLASHWORLD_MODEL."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from ..flashworld_core import checkpoints as dtypes
from ..flashworld_core.errors import FlashWorldError
from . import sockets
from .comfyui import api, folders, run
from .comfyui.api import io
from .comfyui.run import NodeRun

logger = logging.getLogger(__name__)

TITLE = "Load FlashWorld Model"
EMBEDDED = "flashworld-tiny (embedded)"
EMBEDDED_OBJECTS = "trellis-tiny (embedded)"
_EMBEDDED = {EMBEDDED: "tiny", EMBEDDED_OBJECTS: "trellis-tiny"}  # names of the core's
DTYPES = {"auto": None, **dtypes.DTYPES}
UMT5_XXL_DIM = 4096
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
                    options=[*_EMBEDDED, *folders.model_files()],
                    tooltip="Which weights make the scene or object. The embedded tiny models are small and know "
                    "simple rooms of colored shapes, and single solids (trellis-tiny): for trying things out. "
                    "Photographs want the official FlashWorld model.ckpt (research license) or TRELLIS (MIT) "
                    "in models/flashworld.",
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
                api.input(
                    io.Boolean,
                    "compile",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Compiles the transformer's blocks for your machine: the first step takes up to some "
                    "minutes longer, later steps and scenes are faster. Needs Triton, on the CPU a C++ compiler; off "
                    "needs nothing.",
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
    def fingerprint_inputs(cls, model, dtype="auto", vae=None, clip=None, compile=False):
        """Another file under the same name is another model."""
        return "|".join(_stamp(path) for path in _files(model))

    @classmethod
    def execute(cls, model, dtype="auto", vae=None, clip=None, compile=False):
        with NodeRun(TITLE) as run:
            sockets.checked_choice("dtype", dtype, DTYPES)
            return run.output(load(run, model, dtype, vae, clip, compiled=bool(compile)))


def load(run: NodeRun, name: str, dtype: str, vae=None, clip=None, compiled: bool = False):
    """The `memory.LoadedModel` of a name from the list.

    Raises:
        FlashWorldError: no such file, not a FlashWorld model, parts that are missing or do not fit.
        Cancelled: the user stopped it.
    """
    import torch

    from ..flashworld_core.generators import open_model
    from ..flashworld_core.progress import Progress
    from .comfyui import memory
    from .comfyui.encoders import SocketEncoder, SocketText

    opened = open_model(model_path(name))
    info, parts = opened.info, {}
    run.say_now("\n".join(facts(opened, dtype)))
    for socket, value, wanted in (("vae", vae, info.vae), ("clip", clip, info.text)):
        if value is not None and wanted is None:
            run.say(f"{info.model_id} takes no {socket}; what is connected is not used.")
    if info.vae is not None:
        if vae is not None:
            parts["vae"] = SocketEncoder(vae, info)
            run.say("The VAE input gives the mean of what FlashWorld samples: scenes differ a little from its own VAE.")
        elif "vae" not in opened.found:
            parts["vae"] = folders.find_model("vae", _is_wan_vae)
            if parts["vae"] is None:
                raise _missing_vae()
    if info.text is not None:
        if clip is not None:
            parts["text_encoder"] = SocketText(clip, info)
        elif "text_encoder" not in opened.found and info.text.text_dim == UMT5_XXL_DIM:
            if (text := find_text_encoder(run, info)) is None:
                run.say("No text encoder found: connect clip, or give Generate Scene a conditioning.")
            else:
                parts["text_encoder"] = text

    if info.image_encoder and "image_encoder" not in opened.found:
        parts["image_encoder"] = folders.find_model("clip_vision", _is_dinov2_with_registers)

    # Host prompts run in inference mode; tensors made there could not be used elsewhere later.
    with torch.inference_mode(False), torch.no_grad():
        model = opened.load(
            dtype=memory.dtype_for(_torch_dtype(DTYPES[dtype]), _torch_dtype(opened.compute_dtype)),
            device=memory.management.unet_offload_device(),
            parts={name: part for name, part in parts.items() if part is not None},
            progress=Progress(run.part(0.0, 1.0), run.should_stop),
        )
        loaded = memory.LoadedModel(model)
        if compiled:
            if not hasattr(model, "compile"):
                raise FlashWorldError(f"models of {info.name} cannot be compiled; switch compile off.")
            from ..flashworld_core.runtime.compile import compile_blocks

            compile_blocks(model.networks["transformer"], loaded.device)
        return loaded


def find_text_encoder(run: NodeRun, info) -> Path | None:
    """The first file of the text_encoders folder that can be used, or the last if none can: loading says why not.

    Each that is passed over is said: quantized in a way that cannot be multiplied out, damaged, or of another size.
    """
    from ..flashworld_core.models.umt5 import open_text_encoder

    *others, last = [*folders.find_models("text_encoders", _is_umt5)] or [None]
    for path in others:
        try:
            open_text_encoder(path, text_dim=info.text.text_dim)  # reads the headers and the tokenizer
            return path
        except FlashWorldError as error:
            run.say(f"{path.name} is not used. {error}")
    return last


def facts(opened, dtype: str) -> list[str]:
    """What to know of a model before it runs: what it is, its license, and the memory it will need.

    Args:
        opened: from `generators.open_model`.
        dtype: one of `DTYPES`.
    """
    from .comfyui import memory

    info = opened.info
    precision = memory.dtype_for(_torch_dtype(DTYPES[dtype]), _torch_dtype(opened.compute_dtype))
    # Host prompts run in inference mode, in which the plan's tensors could not be counted.
    import torch

    with torch.inference_mode(False):
        plan = opened.memory_plan(dtype=precision, device_type=memory.device_type(memory.management.get_torch_device()))
    return [
        f"{info.model_id}: {info.parameters / 1e6:,.0f} M parameters, made for {info.views} views of "
        f"{info.width}x{info.height} in {info.steps} steps",
        f"License: {info.license or 'the file names none'}",
        *plan_lines(plan),
    ]


def _torch_dtype(name: str | None):
    import torch

    return None if name is None else getattr(torch, name)


def model_path(name: str) -> Path:
    """Where the model of a name from the list is.

    Raises:
        FlashWorldError: nowhere; says what to put where.
    """
    from ..flashworld_core.generators import EMBEDDED as embedded

    if name in _EMBEDDED:
        return embedded[_EMBEDDED[name]]
    path = folders.model_file(name)
    if path is None:
        raise FlashWorldError(
            f"there is no model file {name!r}. Put FlashWorld's model.ckpt ({REPOSITORY}; {LICENSE_NOTE}) into "
            f"{folders.model_folder()}, press R to refresh the list, and choose it; or choose {EMBEDDED!r}."
        )
    return path


def plan_lines(plan) -> list[str]:
    """The memory a generation at the model's own size needs, in words."""
    renderer = f", rendered by {plan.renderer}" if plan.renderer and plan.device_type != "cpu" else ""
    return [
        f"Memory in {plan.precision} at that size{renderer}: {_size(plan.peak(()))} with one network loaded at a "
        f"time, {_size(plan.peak())} with all of them",
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


def _is_wan_vae(name: str) -> bool:
    return name.lower().startswith(("wan2.2_vae", "wan2_2_vae", "wan22_vae"))


def _is_umt5(name: str) -> bool:
    return name.lower().startswith("umt5") and name.lower().endswith(".safetensors")


def _is_dinov2_with_registers(name: str) -> bool:
    return name.lower().startswith("dinov2") and "reg" in name.lower()


def _missing_vae() -> FlashWorldError:
    return FlashWorldError(
        "the model needs the Wan 2.2 VAE. Connect Load VAE to the vae input, or put wan2.2_vae.safetensors "
        "(Comfy-Org/Wan_2.2_ComfyUI_Repackaged on Hugging Face, Apache-2.0) into ComfyUI's models/vae folder and run "
        "again."
    )


def model_info(name: str, dtype: str = "auto") -> dict:
    """Facts about a model of the loader's list; only the header of its file is read.

    Returns:
        ``license``, ``summary``, ``plan`` (lines) and ``error`` (empty where there is none). Names that are not on the
        list are refused without looking for a file.
    """
    info = {"license": "", "summary": "", "plan": [], "error": ""}
    if name not in _EMBEDDED and name not in folders.model_files():
        return info | {"error": "There is no such model in the list; press R to refresh it."}
    if dtype not in DTYPES:
        return info | {"error": f"dtype must be one of {', '.join(DTYPES)}."}
    from ..flashworld_core.generators import open_model

    try:
        opened = open_model(model_path(name))
        summary, _, *plan = facts(opened, dtype)
    except FlashWorldError as error:
        return info | {"error": str(error)}
    return info | {"license": opened.info.license, "summary": summary, "plan": plan}


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
