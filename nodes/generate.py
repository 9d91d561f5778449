"""Generate Scene (FlashWorld): a picture and/or a sentence, along a camera path, to a SPLAT."""

from __future__ import annotations

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.gaussians import FIRST_VIEW, SCENE_SCALE, positive_number
from ..flashworld_core.progress import duration
from ..flashworld_core.text import get_logger
from . import sockets
from .comfyui import api
from .comfyui.api import io
from .comfyui.run import NodeRun

logger = get_logger(__name__)

TITLE = "Generate Scene (FlashWorld)"
SIZES = ("path", "model")
PREVIEW_NODE = "FlashWorld_PreviewScene"
PREVIEW_BUDGET = 200_000  # Gaussians sent to the browser after each step
_GENERATE, _VIEWS = (0.0, 0.9), (0.9, 1.0)  # parts of the progress bar


class Generate(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_Generate",
            display_name=TITLE,
            category="FlashWorld",
            description="Makes a 3D scene from a picture, a sentence, or both. Every camera of the path is one view "
            "the model draws; the scene is sharpest where the cameras look.",
            search_aliases=["flashworld", "image to 3d", "text to 3d", "image to splat", "world", "scene"],
            hidden=[io.Hidden.prompt],
            inputs=[
                api.input(api.Model, "model", tooltip="From Load FlashWorld Model. Another model makes another scene."),
                api.input(
                    api.Trajectory,
                    "trajectory",
                    tooltip="The camera path. Its cameras are the views the scene is made from: more views take more "
                    "time and memory, and parts no camera sees stay empty.",
                ),
                api.input(
                    io.String,
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="What the scene shows. With a picture it says what lies outside of the frame; alone it "
                    "decides everything.",
                ),
                api.input(
                    io.Int,
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed with the same inputs gives the same scene; another seed another one.",
                ),
                api.input(
                    io.Int,
                    "steps",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="How often the scene is refined. The models are made for 4; fewer are faster and rougher, "
                    "more seldom help.",
                ),
                api.input(
                    io.Int,
                    "image_index",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="Which view of the path shows the picture, counted from 0: 0 starts the path at the "
                    "picture, the middle view puts it in the middle.",
                ),
                api.input(
                    io.Combo,
                    "size_from",
                    options=list(SIZES),
                    default="path",
                    advanced=True,
                    tooltip="Size of the views: that of the camera path, or the one the model was trained at. Larger "
                    "views show finer detail and take more memory; far from the training size quality falls.",
                ),
                api.input(
                    io.Image,
                    "image",
                    optional=True,
                    tooltip="The picture to make a scene of. It is cropped about its center to the shape of the "
                    "views. Left open, the scene comes from the words alone.",
                ),
                api.input(
                    io.Conditioning,
                    "conditioning",
                    optional=True,
                    tooltip="A ready text embedding from CLIP Text Encode with UMT5-XXL, in place of the prompt. Begin "
                    "its text with [Static] and a space, as the model was trained.",
                ),
                api.input(
                    io.Mask,
                    "mask",
                    optional=True,
                    tooltip="What to keep of the picture: 1 (white) stays, as Remove Background has it; the rest "
                    "becomes white, the model's color for nothing, without a fringe. Load Image's mask is the other "
                    "way round: put Invert Mask between.",
                ),
            ],
            outputs=[
                api.output(api.Splat, "splat", tooltip="The scene as 3D Gaussians, in the world of the camera path."),
                api.output(io.Image, "images", tooltip="The scene seen from every view of the path, on white."),
                api.output(
                    api.Camera,
                    "camera",
                    tooltip="The first view, so that 3D previews open where the path begins.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, trajectory, prompt, seed, steps, image_index, size_from="path", image=None, conditioning=None,
        mask=None,
    ):  # fmt: skip
        with NodeRun(TITLE) as run:
            watched = _is_watched(cls.hidden.prompt)
            splat, images, camera = generate(
                run, model, trajectory, prompt, seed, steps, image_index, size_from, image, conditioning, watched,
                mask,
            )  # fmt: skip
            return run.output(splat, images, camera)


def generate(
    run: NodeRun, loaded, trajectory, prompt: str, seed: int, steps: int, image_index: int, size_from: str = "path",
    image=None, conditioning=None, watched: bool = False, mask=None,
):  # fmt: skip
    """The node's work: a SPLAT, the views [V, H, W, 3], and the first view as a LOAD3D_CAMERA.

    Args:
        watched: send the scene so far to the browser after each step.

    Raises:
        FlashWorldError: inputs that do not fit, or too little memory.
        Cancelled: the user stopped it.
    """
    from ..flashworld_core.generators.base import Request, RunOptions, ViewImage
    from ..flashworld_core.progress import Progress
    from ..flashworld_core.rendering.render import warm_up
    from ..flashworld_core.runtime.stages import retry_on_oom
    from ..flashworld_core.runtime.threads import threads_by_load
    from .comfyui import memory
    from .comfyui.encoders import CLIP_ADVICE, conditioning_rows

    if not isinstance(loaded, memory.LoadedModel):
        raise FlashWorldError(
            f"the model input needs a FlashWorld model (from Load FlashWorld Model), got {type(loaded).__name__}."
        )
    info = loaded.model.info
    if info.kind != "scene":
        raise FlashWorldError(f"{info.model_id} makes objects, not scenes; connect it to Image to Object.")
    sockets.checked_choice("size_from", size_from, SIZES)
    cameras = sockets.checked_trajectory(trajectory)
    cameras = cameras.fitted(info.width, info.height) if size_from == "model" else cameras
    picture = None if image is None else sockets.picture_in(image, run.say)
    if mask is not None and picture is None:
        run.say("A mask is connected, but no image: it is not used.")
        mask = None
    if mask is not None:
        mask = sockets.mask_in(mask, tuple(picture.shape[:2]), "object", run.say)
    if mask is not None:
        if not float(mask.max()) > 0.5:
            raise FlashWorldError(
                "the mask keeps nothing of the picture: here 1 (white) is what to keep, as Remove Background has it. "
                "Load Image's mask is the other way round: put Invert Mask between, or leave the mask out."
            )
        run.say(f"The mask keeps {100 * float(mask.mean()):.0f} % of the picture; the rest is laid on white.")
    if picture is None and conditioning is None and not prompt.strip():
        raise FlashWorldError(
            "connect an image, write a prompt, or both: there is nothing to make a scene from (a conditioning also "
            "works)."
        )
    options = {}
    if conditioning is not None:
        options["text_embeds"] = conditioning_rows(conditioning, info, "conditioning", CLIP_ADVICE, run.say)
    request = Request(
        cameras,
        images=() if picture is None else (ViewImage(picture, image_index, mask),),
        prompt=prompt,
        seed=seed,
        steps=None if steps == info.steps else steps,
        options=options,
    )
    if info.text is not None and loaded.model.networks.get("text") is None and conditioning is None:
        raise FlashWorldError(
            "the model has no text encoder, which even a scene from a picture needs. Connect Load CLIP (umt5_xxl, type "
            "wan) to Load FlashWorld Model, or a conditioning to this node."
        )
    if picture is None and not 0 <= image_index < len(cameras):
        raise FlashWorldError(f"image_index {image_index} names no view; the path has views 0 to {len(cameras) - 1}.")
    remarks = loaded.model.check(request)  # before memory is planned for it
    if conditioning is not None and prompt.strip():
        run.say("The conditioning is used; the prompt is not.")
    for remark in remarks:
        run.say(remark)

    _say_how_long(run, loaded, request)
    size = {"views": len(cameras), "height": cameras.height, "width": cameras.width}
    chunk = loaded.views_per_chunk(**size)
    stages = loaded.stages(loaded.plan(**size, views_per_chunk=chunk), run.say)

    def on_step(step) -> None:
        run.say_now(f"Step {step.step + 1} of {step.steps}")
        if watched:
            _send(run, step)

    warm_up(loaded.device)  # the CPU renderer compiles while the first step is denoised
    options = RunOptions(
        stages=stages,
        views_per_chunk=chunk,
        progress=Progress(run.part(*_GENERATE), run.should_stop),
        on_step=on_step,
    )

    def work():
        made = loaded.model.generate(request, options)
        images = retry_on_oom(stages, "renderer", chunk, lambda chunk: _render(run, stages, made, chunk))
        return made, images, _first_view(made)

    with threads_by_load(loaded.device.type == "cpu"):
        made, images, camera = memory.with_clear_errors(work)
    scene, views = made.gaussians, made.cameras
    scene.metadata[FIRST_VIEW] = camera  # travels with the scene, into files too
    run.say(f"{len(scene):,} Gaussians from {len(views)} views of {views.width}x{views.height}")
    return sockets.splat_from_gaussians(scene), sockets.image_out(images), camera


def _say_how_long(run: NodeRun, loaded, request) -> None:
    """Say how long it will take: for a while, or, where that is minutes, to stay, with a size that is quicker."""
    from ..flashworld_core.runtime.speed import advice, operations_per_second

    count = getattr(loaded.model, "operations", None)  # not every generator's work has been counted
    if count is None:
        return
    info, cameras = loaded.model.info, request.cameras
    seconds, quicker = advice(
        lambda views, height, width: count(views=views, height=height, width=width, steps=request.steps),
        views=len(cameras),
        width=cameras.width,
        height=cameras.height,
        size_multiple=info.size_multiple,
        rate=operations_per_second(loaded.device, loaded.model.dtype),
    )
    if quicker:
        run.say(f"This will take about {duration(seconds)} on this machine. {quicker}")
    elif seconds > 10:
        run.say_now(f"About {duration(seconds)}")


def _render(run: NodeRun, stages, made, chunk: int):
    """[V, H, W, 3]: the scene at its own views, as the model sees it."""
    from ..flashworld_core.rendering.render import render

    with stages("renderer") as device:
        return render(
            made.gaussians,
            made.cameras,
            background="white",
            views_per_chunk=None if device.type == "cpu" else chunk,
            progress=run.part(*_VIEWS),
            should_stop=run.should_stop,
        ).rgb


def _first_view(made) -> dict:
    """LOAD3D_CAMERA of the first view, its target at the distance of what it looks at."""
    from ..flashworld_core.rendering.render import render
    from ..flashworld_core.trajectories.comfyui import to_load3d

    seen = render(made.gaussians, made.cameras[0], modes=("expected_depth", "alpha"))
    depths = seen.expected_depth[seen.alpha > 0.5]
    distance = float(depths.median()) if len(depths) else positive_number(made.gaussians.metadata, SCENE_SCALE) or 1.0
    return to_load3d(made.cameras, 0, distance)


def _is_watched(prompt) -> bool:
    """Whether the running workflow has a node that shows scenes; without one nothing is sent."""
    nodes = prompt.values() if isinstance(prompt, dict) else ()
    return any(isinstance(node, dict) and node.get("class_type") == PREVIEW_NODE for node in nodes)


def _send(run: NodeRun, step) -> None:
    """Send the scene so far to the browser. A preview that fails costs nothing but itself."""
    from .preview_stream import send_scene

    try:
        send_scene(
            run.node_id,
            step.most_important(PREVIEW_BUDGET),
            step=step.step,
            steps=step.steps,
            budget=PREVIEW_BUDGET,
            total=step.count,
            cameras=step.cameras,
        )
    except Exception as error:
        logger.warning("%s: no preview of step %d: %s", TITLE, step.step + 1, error)
