"""Image to Object: one image of an object, cut out by a mask or its own transparency, to a SPLAT (and a FIELD)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.gaussians import FIRST_VIEW
from . import sockets
from .comfyui import api
from .comfyui.api import io
from .comfyui.run import NodeRun
from .generate import _first_view, _is_watched, _render, _send

TITLE = "Image to Object"
_GENERATE, _VIEWS = (0.0, 0.9), (0.9, 1.0)  # parts of the progress bar
OWN_STEPS, OWN_GUIDANCE = 0, -1.0  # stand for the model's own


class ImageToObject(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        def steps(id: str, what: str):
            return api.input(
                io.Int, id, default=OWN_STEPS, min=0, max=200,
                tooltip=f"How many steps {what} takes; 0 is the model's own number. Distilled models are made for 1 or "
                "2, others for about 25; more take longer in proportion. VFusion3D works in one.",
            )  # fmt: skip

        return api.schema(
            node_id="FlashWorld_ImageToObject",
            display_name=TITLE,
            category="FlashWorld",
            description="Makes a 3D object from one image of it. Needs a model of objects in Load FlashWorld Model.",
            search_aliases=["trellis", "vfusion3d", "image to 3d", "3d object", "image to splat", "mdt", "object"],
            hidden=[io.Hidden.prompt],
            inputs=[
                api.input(
                    api.Model, "model",
                    tooltip="A model of objects, from Load FlashWorld Model (trellis-tiny is embedded). Models of "
                    "scenes belong into Generate Scene.",
                ),
                api.input(
                    io.Image, "image",
                    tooltip="The image of the object. It is cropped about the object by itself. Transparency in it "
                    "counts as the mask.",
                ),
                api.input(
                    io.Int, "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="The same seed with the same inputs gives the same object; another seed another guess at "
                    "what the image does not show.",
                ),
                steps("structure_steps", "the shape"),
                steps("detail_steps", "the look"),
                api.input(
                    io.Float, "guidance", default=OWN_GUIDANCE, min=OWN_GUIDANCE, max=100.0, step=0.1, round=0.01,
                    tooltip="How hard the object is pushed towards the image. -1 is the model's own, 0 is none and "
                    "takes half the time, 3 to 8 suits models that are not distilled.",
                ),
                api.input(
                    io.Mask, "mask", optional=True,
                    tooltip="Which part of the image is the object. Load Image's mask works as it is (see mask_is). "
                    "Left open, the image's own transparency is taken.",
                ),
                api.input(
                    io.Combo, "mask_is", options=list(sockets.MASK_MEANINGS), default="auto", optional=True,
                    advanced=True,
                    tooltip="What is white in the mask: the object, as Remove Background has it, or the background, as "
                    "Load Image does. auto looks at the mask's edges, where the background is.",
                ),
            ],
            outputs=[
                api.output(api.Splat, "splat", tooltip="The object as 3D Gaussians, at the origin."),
                api.output(io.Image, "images", tooltip="The object from all around, on white."),
                api.output(api.Camera, "camera", tooltip="The view from the front, so that 3D previews open there."),
                api.output(
                    api.Field, "field",
                    tooltip="The object as density and color, for Field to Mesh and Field to Splat. Models that make "
                    "Gaussians at once (TRELLIS) have none.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, image, seed, structure_steps=OWN_STEPS, detail_steps=OWN_STEPS, guidance=OWN_GUIDANCE, mask=None,
        mask_is="auto",
    ):  # fmt: skip
        with NodeRun(TITLE) as run:
            watched = _is_watched(cls.hidden.prompt)
            return run.output(
                *make_object(run, model, image, seed, (structure_steps, detail_steps), guidance, mask, watched, mask_is)
            )


def make_object(
    run: NodeRun, loaded, image, seed: int, steps: tuple[int, int], guidance: float, mask=None, watched: bool = False,
    mask_is: str = "auto",
):  # fmt: skip
    """The node's work: a SPLAT, views around it [V, H, W, 3], the first as a LOAD3D_CAMERA, and a FIELD or what says
    that there is none.

    Raises:
        FlashWorldError: inputs that do not fit, or too little memory.
        Cancelled: the user stopped it.
    """
    from ..flashworld_core.generators.base import Request, RunOptions, ViewImage
    from ..flashworld_core.progress import Progress
    from ..flashworld_core.rendering.render import warm_up
    from ..flashworld_core.runtime.stages import retry_on_oom
    from .comfyui import memory

    if not isinstance(loaded, memory.LoadedModel):
        raise FlashWorldError(
            f"the model input needs a model (from Load FlashWorld Model), got {type(loaded).__name__}."
        )
    info = loaded.model.info
    if info.kind != "object":
        raise FlashWorldError(
            f"{info.model_id} makes scenes: connect it to Generate Scene, or choose a model of objects (trellis-tiny "
            "is embedded) in Load FlashWorld Model."
        )
    sockets.checked_numbers(guidance=guidance)
    options: dict[str, Any] = {} if guidance < 0 else {"guidance": float(guidance)}
    own = (info.steps, info.steps)
    chosen = None if steps == (OWN_STEPS, OWN_STEPS) else tuple(s or o for s, o in zip(steps, own, strict=True))
    pixels = _pixels(image, run)
    view = ViewImage(pixels, mask=sockets.mask_in(mask, tuple(pixels.shape[:2]), mask_is, run.say))
    request = Request(None, (view,), seed=seed, steps=chosen, options=options)
    for remark in loaded.model.check(request):
        run.say(remark)

    size = {"views": info.views, "height": info.height, "width": info.width}
    stages = loaded.stages(loaded.plan(**size, views_per_chunk=1), run.say)

    def on_step(step) -> None:
        run.say_now(f"Step {step.step + 1} of {step.steps}")
        if watched:
            _send(run, step)

    warm_up(loaded.device)  # the CPU renderer compiles meanwhile
    options = RunOptions(
        stages=stages, progress=Progress(run.part(*_GENERATE), run.should_stop), on_step=on_step if watched else None
    )

    def work():
        made = loaded.model.generate(request, options)
        images = retry_on_oom(stages, "renderer", 1, lambda chunk: _render(run, stages, made, chunk))
        return made, images, _first_view(made)

    made, images, camera = memory.with_clear_errors(work)
    scene = made.gaussians
    scene.metadata[FIRST_VIEW] = camera
    run.say(f"{len(scene):,} Gaussians in {made.steps} steps")
    if info.license:
        run.say(f"License: {info.license}")
    field = made.field
    if field is None:
        field = api.moved(f"{info.model_id} makes Gaussians and no field; use the splat output.")
    return sockets.splat_from_gaussians(scene), sockets.image_out(images), camera, field


def _pixels(image: Any, run: NodeRun) -> Tensor:
    """The first image of a batch as [H, W, C] on the CPU, its transparency kept."""
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        shape = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise FlashWorldError(f"image must be an IMAGE [B, H, W, C], got {shape}.")
    if len(image) > 1:
        run.say(f"The batch has {len(image)} images; only the first is used.")
    pixels = image[0].detach().float().cpu()
    if not bool(torch.isfinite(pixels).all()):
        raise FlashWorldError("image has numbers that are not finite (NaN); check the node it comes from.")
    return pixels.clamp(0, 1)
