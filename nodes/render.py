"""Render Scene Views: a SPLAT of any node, filmed along a camera path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..flashworld_core.errors import FlashWorldError
from . import sockets
from .comfyui import api
from .comfyui.api import io
from .comfyui.run import NodeRun
from .sockets import MAX_FRAMES, MAX_SIDE

if TYPE_CHECKING:
    from ..flashworld_core.cameras import Cameras
    from ..flashworld_core.gaussians import Gaussians
    from ..flashworld_core.rendering.maps import RenderedMaps

TITLE = "Render Scene Views"
AS_GENERATED = "as generated"
SOFTNESSES = (AS_GENERATED, "sharp")
DEFAULT_SIZE = (704, 480)  # of a lone camera
_MEMORY_SHARE = 0.9  # of what is free, that the pictures may take


class RenderViews(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_RenderViews",
            display_name=TITLE,
            category="FlashWorld",
            description="Films a 3D scene along a camera path: pictures for Create Video and upscalers, depth and "
            "normals for ControlNets, and the holes an inpainting model should fill.",
            search_aliases=["render splat", "film", "depth", "normal map", "hole mask", "inpaint", "novel view"],
            inputs=[
                api.input(api.Splat, "splat", tooltip="The scene to film, from any node that makes a SPLAT."),
                api.input(
                    io.Int,
                    "width",
                    default=0,
                    min=0,
                    max=MAX_SIDE,
                    step=8,
                    tooltip="Width of the pictures in pixels. 0 takes the path's (704 for a lone camera). Another "
                    "shape crops the view in the middle.",
                ),
                api.input(
                    io.Int,
                    "height",
                    default=0,
                    min=0,
                    max=MAX_SIDE,
                    step=8,
                    tooltip="Height of the pictures in pixels. 0 takes the path's (480 for a lone camera).",
                ),
                api.input(
                    io.Int,
                    "frames",
                    default=0,
                    min=0,
                    max=MAX_FRAMES,
                    tooltip="How many pictures, spread along the path at its own pace: more make a slower, smoother "
                    "video. 0 renders the path's own cameras.",
                ),
                api.input(
                    io.String,
                    "background",
                    default="#000000",
                    tooltip="Color where the scene is empty: #rrggbb, black, white, gray, red, green or blue.",
                ),
                api.input(
                    io.Float,
                    "hole_threshold",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="A pixel is a hole if the scene covers less of it than this. Higher finds more holes, also "
                    "thin and see-through places; 0 finds none.",
                ),
                api.input(
                    io.Int,
                    "sh_degree",
                    default=3,
                    min=0,
                    max=3,
                    advanced=True,
                    tooltip="How much of the color may change with the direction of view: 0 is matt, 3 shows every "
                    "gloss and reflection the scene has.",
                ),
                api.input(
                    io.Combo,
                    "softness",
                    options=list(SOFTNESSES),
                    default=AS_GENERATED,
                    advanced=True,
                    tooltip="For pictures larger than the views the scene was made from: as generated keeps them as "
                    "soft as those, which closes the gaps between Gaussians; sharp draws every Gaussian at its size.",
                ),
                api.input(
                    api.Trajectory,
                    "trajectory",
                    optional=True,
                    tooltip="The camera path to film along. This or a camera is needed.",
                ),
                api.input(
                    api.Camera,
                    "camera",
                    optional=True,
                    tooltip="The view to render, from a 3D node, where there is no camera path. A list of cameras is "
                    "rendered as it is, one picture for each.",
                ),
            ],
            outputs=[
                api.output(
                    io.Image,
                    "images",
                    tooltip="One picture per view, over the background, which they hold already: to "
                    "lay them over something else, render on black and add the other picture times (1 - mask).",
                ),
                api.output(io.Mask, "mask", tooltip="How much of each pixel the scene covers: 1 is all of it."),
                api.output(
                    io.Image,
                    "depth",
                    tooltip="White is near, black far or empty, even steps of 1/distance with one range for all "
                    "frames: what depth ControlNets expect.",
                ),
                api.output(
                    io.Image,
                    "normal",
                    tooltip="Normal map as OpenGL and Render Splat have it: red right, green up, blue towards the "
                    "viewer, empty black. For ControlNets that want red to the left, invert the red channel.",
                ),
                api.output(io.Mask, "holes", tooltip="1 where the scene is missing: the mask for an inpainting model."),
            ],
        )

    @classmethod
    def execute(
        cls, splat, width=0, height=0, frames=0, background="#000000", hole_threshold=0.5, sh_degree=3,
        softness=AS_GENERATED, trajectory=None, camera=None,
    ):  # fmt: skip
        from ..flashworld_core.ops.select import few_seen
        from ..flashworld_core.rendering.constants import LOW_PASS
        from ..flashworld_core.rendering.maps import OPAQUE_ALPHA, color_from_text

        with NodeRun(TITLE) as run:
            sockets.checked_choice("softness", softness, SOFTNESSES)
            color = color_from_text(background)
            scene = sockets.renderable_scene(splat, run.say)
            cameras = cameras_to_render(run, trajectory, camera, width, height, frames)
            low_pass = None if softness == AS_GENERATED else LOW_PASS
            made = render_views(run, scene, cameras, color, hole_threshold, sh_degree, low_pass)
            told = few_seen(
                scene,
                cameras,
                "Another axis may point up (axes of Load Scene, up of Load Camera Path), or the path belongs to "
                "another scene; one trained with nerfstudio needs its dataparser_transforms.json (dataparser of Load "
                "Camera Path).",
            )
            if told:
                run.say(told)
            if made.nearest and float(made.alpha.max()) < OPAQUE_ALPHA:
                run.say(
                    "The scene is translucent everywhere: depth and normals are those of its most opaque pixels, and "
                    "the images hold the background already; render on black to composite them with the mask."
                )
            if made.nearest:
                run.say(f"Depth: white is {made.nearest:.4g}, black {made.farthest:.4g} scene units away.")
            else:
                run.say("Nothing of the scene is in sight of these cameras.")
            pictures = (made.images, made.alpha, made.depth, made.normals, made.holes)
            return run.output(*(sockets.image_out(picture, clamped=True) for picture in pictures))


def cameras_to_render(run: NodeRun, trajectory, camera, width: int, height: int, frames: int) -> Cameras:
    """The path, or what is on the camera input, with the size and number of views asked for; 0 keeps what there is."""
    from ..flashworld_core.trajectories.comfyui import cameras_from_load3d
    from ..flashworld_core.trajectories.keyframes import resample

    if trajectory is not None:
        if camera is not None:
            run.say("Both a trajectory and a camera are connected: the trajectory is rendered.")
        cameras = sockets.checked_trajectory(trajectory)
        cameras = cameras.fitted(width or cameras.width, height or cameras.height)
    elif camera is not None:
        cameras = cameras_from_load3d(camera, width or DEFAULT_SIZE[0], height or DEFAULT_SIZE[1])
    else:
        raise FlashWorldError(
            "there is nothing to render from: connect a camera path (FlashWorld Camera Path, Load Camera Path) to "
            "trajectory, or a single view to camera."
        )
    if frames and frames != len(cameras):
        cameras = resample(cameras, frames, timing="even")
    return cameras


def render_views(
    run: NodeRun,
    scene: Gaussians,
    cameras: Cameras,
    background: tuple[float, float, float],
    hole_threshold: float,
    sh_degree: int,
    low_pass: float | None,
) -> RenderedMaps:
    """Every picture of every view; arguments as in `render_maps`.

    Raises:
        FlashWorldError: more pictures than memory holds.
        Cancelled: the user stopped it.
    """
    from ..flashworld_core.rendering.maps import NUMBERS_PER_PIXEL, render_maps
    from .comfyui.memory import free_main_memory, on_render_device

    dtype = api.intermediate_dtype()
    needed = len(cameras) * cameras.width * cameras.height * NUMBERS_PER_PIXEL * dtype.itemsize
    free = free_main_memory()
    if needed > _MEMORY_SHARE * free:
        raise FlashWorldError(
            f"{len(cameras)} frames of {cameras.width}x{cameras.height} need {needed / 2**30:.1f} GiB of main memory, "
            f"{free / 2**30:.1f} are free. Use fewer frames or a smaller width and height."
        )

    def work(device) -> RenderedMaps:
        return render_maps(
            scene,
            cameras,
            background=background,
            sh_degree=sh_degree,
            hole_threshold=hole_threshold,
            low_pass=low_pass,
            device=device,
            dtype=dtype,
            progress=run.progress,
            should_stop=run.should_stop,
        )

    return on_render_device(scene, work, run.say)
