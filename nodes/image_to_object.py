"""Image to Object: one image of an object, with a mask, to a SPLAT (and a FIELD, where the model makes one)."""

from __future__ import annotations

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.gaussians import FIRST_VIEW
from . import sockets
from .comfyui import api
from .comfyui.api import io
from .comfyui.run import NodeRun

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
            search_aliases=["image to 3d", "object", "vfusion3d", "trellis", "mesh", "image to splat", "triplane"],
            inputs=[
                api.input(
                    api.Model,
                    "model",
                    tooltip="A model of objects from Load FlashWorld Model, such as VFusion3D (its weights may not be "
                    "used commercially). Another model makes another object.",
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
                    "VFusion3D works in one step.",
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
                    io.Mask,
                    "mask",
                    optional=True,
                    tooltip="Which part of the picture is the object. Left open, a background of one color is told "
                    "apart by itself, and any other picture counts as a whole.",
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
    def execute(cls, model, image, seed=0, steps=0, guidance=OWN_GUIDANCE, mask_is="auto", mask=None):
        with NodeRun(TITLE) as run:
            return run.output(*make_object(run, model, image, seed, steps, guidance, mask_is, mask))


def make_object(run: NodeRun, loaded, image, seed: int, steps: int, guidance: float, mask_is: str, mask):
    """The node's work: a SPLAT, a FIELD (or what says that there is none), views [V, H, W, 3], a LOAD3D_CAMERA.

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
    request = Request(
        None,
        (ViewImage(picture, mask=coverage),),
        seed=seed,
        steps=steps or None,
        options={} if guidance < 0 else {"guidance": guidance},
    )
    for remark in loaded.model.check(request):
        run.say(remark)
    stages = loaded.stages(loaded.plan(1, info.height, info.width), run.say)
    warm_up(loaded.device)
    options = RunOptions(stages=stages, progress=Progress(run.part(*_GENERATE), run.should_stop))
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
