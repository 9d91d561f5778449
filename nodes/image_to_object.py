"""Image to Object: one image of an object, with a mask, to a SPLAT (and a FIELD, where the model makes one)."""

from __future__ import annotations

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.gaussians import FIRST_VIEW
from . import sockets
from .comfyui import api
from .comfyui.api import io
from .comfyui.run import NodeRun
from .generate import _is_watched, _send

TITLE = "Image to Object"
OWN_GUIDANCE = -1.0
_GENERATE, _VIEWS = (0.0, 0.9), (0.9, 1.0)  # parts of the progress bar


class ImageToObject(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_ImageToObject",
            display_name=TITLE,
            category="FlashWorld",
            description="Makes a 3D object from one picture of it. What lies around the object in the picture is left "
            "out by the mask. Place Object in Scene puts the result into a scene.",
            hidden=[io.Hidden.prompt],
            search_aliases=["image to 3d", "object", "vfusion3d", "trellis", "mesh", "image to splat", "triplane"],
            inputs=[
                api.input(
                    api.Model,
                    "model",
                    tooltip="A model of objects from Load FlashWorld Model, trellis-tiny (embedded), TRELLIS "
                    "(MIT), or VFusion3D (no commercial use). Another model makes another object.",
                ),
                api.input(
                    io.Image,
                    "image",
                    tooltip="The picture: one object, whole, best seen from the front. It is cropped to the object and "
                    "centered.",
                ),
                api.input(
                    io.Int,
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Another seed gives another object, with models that draw at random. VFusion3D does not.",
                ),
                api.input(
                    io.Int,
                    "steps",
                    default=0,
                    min=0,
                    max=200,
                    tooltip="How often the object is refined; 0 takes what the model was made for. More is slower. "
                    "TRELLIS takes as many for the shape and for the look: about 25, distilled 1 or 2. VFusion3D works "
                    "in one step.",
                ),
                api.input(
                    io.Float,
                    "guidance",
                    default=OWN_GUIDANCE,
                    min=OWN_GUIDANCE,
                    max=30.0,
                    step=0.1,
                    advanced=True,
                    tooltip="How closely the object follows the picture, with models that have it: higher is closer "
                    "and stiffer, 0 follows the model alone. -1 takes the model's own.",
                ),
                api.input(
                    io.Combo,
                    "mask_is",
                    options=list(sockets.MASK_MEANINGS),
                    default="auto",
                    advanced=True,
                    tooltip="What is white in the mask: the object, or the background, as Load Image gives it. auto "
                    "looks at the mask's edges, where the background is.",
                ),
                api.input(
                    io.Int,
                    "detail_steps",
                    default=0,
                    min=0,
                    max=200,
                    advanced=True,
                    tooltip="Another number of steps for the look alone, with models that make shape and look one "
                    "after the other (TRELLIS); 0 takes that of steps.",
                ),
                api.input(
                    io.Mask,
                    "mask",
                    optional=True,
                    tooltip="Which part of the picture is the object. Left open, its transparency says; then a "
                    "background of one color is told apart by itself, and any other picture counts as a whole.",
                ),
            ],
            outputs=[
                api.output(
                    api.Splat,
                    "splat",
                    tooltip="The object as 3D Gaussians, around the origin, its front towards the first view.",
                ),
                api.output(
                    api.Field,
                    "field",
                    tooltip="The object as density and color, for Field to Mesh and Field to Splat. Models that make "
                    "Gaussians at once (TRELLIS) have none.",
                ),
                api.output(io.Image, "images", tooltip="The object from all around, on white."),
                api.output(api.Camera, "camera", tooltip="The view of its front, where 3D previews open."),
            ],
        )

    @classmethod
    def execute(cls, model, image, seed=0, steps=0, guidance=OWN_GUIDANCE, mask_is="auto", detail_steps=0, mask=None):
        with NodeRun(TITLE) as run:
            watched = _is_watched(cls.hidden.prompt)
            return run.output(
                *make_object(run, model, image, seed, (steps, detail_steps), guidance, mask_is, mask, watched)
            )


def make_object(
    run: NodeRun, loaded, image, seed: int, steps: tuple[int, int], guidance: float, mask_is: str, mask,
    watched: bool = False,
):  # fmt: skip
    """The node's work: a SPLAT, a FIELD (or what says that there is none), views [V, H, W, 3], a LOAD3D_CAMERA.

    Args:
        steps: for the shape, or everything; and for the look. 0 stands for the model's own, and for the same.
        watched: send the object so far to the browser after each step.

    Raises:
        FlashWorldError: inputs that do not fit, or too little memory.
        Cancelled: the user stopped it.
    """
    from ..flashworld_core.generators.base import Request, RunOptions, ViewImage
    from ..flashworld_core.progress import Progress
    from ..flashworld_core.rendering.render import render, warm_up
    from ..flashworld_core.trajectories.comfyui import to_load3d
    from .comfyui import memory

    if not isinstance(loaded, memory.LoadedModel):
        raise FlashWorldError(
            f"the model input needs a model (from Load FlashWorld Model), got {type(loaded).__name__}."
        )
    info = loaded.model.info
    if info.kind != "object":
        raise FlashWorldError(
            f"{info.model_id} makes scenes along a camera path, not objects; connect it to Generate Scene, or load a "
            "model of objects (VFusion3D, TRELLIS)."
        )
    sockets.checked_numbers(guidance=guidance)
    picture = sockets.picture_in(image)
    coverage = sockets.mask_in(mask, tuple(picture.shape[:2]), mask_is, run.say)
    if coverage is None and image.shape[-1] == 4:  # transparency is the mask, where nothing else is
        picture, coverage = (
            image[0, ..., :3].detach().float().cpu().clamp(0, 1),
            image[0, ..., 3].detach().float().cpu(),
        )
    request = Request(
        None,
        (ViewImage(picture, mask=coverage),),
        seed=seed,
        steps=_steps(steps, info.steps),
        options={} if guidance < 0 else {"guidance": guidance},
    )
    for remark in loaded.model.check(request):
        run.say(remark)
    stages = loaded.stages(loaded.plan(1, info.height, info.width), run.say)
    warm_up(loaded.device)

    def on_step(step) -> None:
        run.say_now(f"Step {step.step + 1} of {step.steps}")
        _send(run, step)

    options = RunOptions(
        stages=stages, progress=Progress(run.part(*_GENERATE), run.should_stop), on_step=on_step if watched else None
    )
    made = memory.with_clear_errors(lambda: loaded.model.generate(request, options))
    scene, cameras = made.gaussians, made.cameras
    distance = float(cameras.positions[0].norm())
    camera = to_load3d(cameras, 0, distance)
    scene.metadata[FIRST_VIEW] = camera

    def views(device):
        return render(
            scene.to(device),
            cameras.to(device),
            background="white",
            progress=run.part(*_VIEWS),
            should_stop=run.should_stop,
        ).rgb

    images = memory.on_render_device(scene, views, run.say)
    run.say(f"{len(scene):,} Gaussians")
    if info.license:
        run.say(f"License: {info.license}")
    field = made.field
    if field is None:
        field = api.moved(f"{info.model_id} makes Gaussians and no field; use the splat output.")
    return sockets.splat_from_gaussians(scene), field, sockets.image_out(images), camera


def _steps(steps: tuple[int, int], own: int) -> int | tuple[int, int] | None:
    """A request's steps: None for the model's own, one number for all, or one each for shape and look."""
    first, second = steps
    if not second:
        return first or None
    return first or own, second
