"""Preview Scene: the scene in the viewer on the node, the chosen view as a camera, and a picture of it."""

from __future__ import annotations

import json
import math

import torch

from ..flashworld_core.cameras import Cameras
from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.formats.scenes.stream import DEFAULT_BUDGET, StreamInfo
from ..flashworld_core.gaussians import Gaussians
from . import sockets
from .comfyui import api
from .comfyui.api import io
from .comfyui.run import NodeRun

TITLE = "Preview Scene"
UI_KEY = "flashworld_scene"
MAX_SIDE = 4096
MAX_BUDGET = 8_000_000
MAX_CAMERAS = 2000  # sent to the browser; longer paths are thinned out
DEFAULT_FOV = 60.0


class PreviewScene(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_PreviewScene",
            display_name=TITLE,
            category="FlashWorld",
            description="Shows a 3D scene on the node: orbit, fly through it, play the camera path. While a scene is "
            "being generated it shows every step. The view you choose goes on as a camera and a transparent picture.",
            search_aliases=["flashworld", "viewer", "splat preview", "3d preview", "gaussian splatting", "fly"],
            is_output_node=True,
            inputs=[
                api.input(
                    api.Splat, "splat", tooltip="The scene to show: from Generate Scene, or any node that makes one."
                ),
                api.input(
                    io.String,
                    "view",
                    default="",
                    tooltip="The view that goes out as camera and picture. The buttons Use this view and Snapshot in "
                    "the viewer fill it in; empty means the connected camera, or else the first of the path.",
                ),
                api.input(
                    io.Int,
                    "width",
                    default=704,
                    min=16,
                    max=MAX_SIDE,
                    tooltip="Width of the picture in pixels. The viewer outlines what the picture will show.",
                ),
                api.input(
                    io.Int, "height", default=480, min=16, max=MAX_SIDE, tooltip="Height of the picture in pixels."
                ),
                api.input(
                    io.Int,
                    "budget",
                    default=DEFAULT_BUDGET,
                    min=1000,
                    max=MAX_BUDGET,
                    step=1000,
                    advanced=True,
                    tooltip="How many Gaussians the browser gets at most, the most visible ones first. Fewer load and "
                    "move faster; the picture and all other nodes always use the whole scene.",
                ),
                api.input(
                    api.Trajectory,
                    "trajectory",
                    optional=True,
                    tooltip="A camera path to draw and play in the scene. Its first camera is where the preview opens.",
                ),
                api.input(
                    api.Camera,
                    "camera",
                    optional=True,
                    tooltip="Where the preview opens, from any 3D node; of a list of cameras, the first. Comes before "
                    "the path's first camera, after the view you choose in the viewer.",
                ),
            ],
            outputs=[
                api.output(api.Camera, "camera", tooltip="The chosen view, for nodes that take a 3D camera."),
                api.output(
                    io.Image,
                    "image",
                    tooltip="The chosen view as a picture with transparency where the scene is empty.",
                ),
            ],
        )

    @classmethod
    def execute(cls, splat, view="", width=704, height=480, budget=DEFAULT_BUDGET, trajectory=None, camera=None):
        with NodeRun(TITLE) as run:
            shown, seen_from, image = preview(run, splat, view, width, height, budget, trajectory, camera)
            return run.output(seen_from, image, ui={UI_KEY: [shown]})


def preview(
    run: NodeRun, splat, view: str, width: int, height: int, budget: int, trajectory=None, start=None
) -> tuple[dict, dict, torch.Tensor]:
    """The node's work: what the browser shows, a LOAD3D_CAMERA, and the picture [1, H, W, 4].

    Args:
        start: LOAD3D_CAMERA to open at where ``view`` is empty, or None.

    Raises:
        FlashWorldError: inputs that do not fit, or a scene with nothing to see.
        Cancelled: the user stopped it.
    """
    from ..flashworld_core.trajectories.comfyui import from_load3d, to_load3d
    from .preview_stream import poses_of, scene_file

    gaussians = sockets.gaussians_from_splat(splat, notify=run.say)
    path = None if trajectory is None else sockets.checked_trajectory(trajectory)
    viewpoints = sockets.viewpoints(gaussians, path)
    info, file = scene_file(splat, gaussians, budget, viewpoints, run.should_stop)
    if info.count == 0:
        raise FlashWorldError(
            f"none of the scene's {info.total:,} Gaussians can be seen: they are transparent or not finite numbers. "
            f"Check the node the scene comes from."
        )
    start = None if start is None else from_load3d(sockets.first_camera(start, run.say), width, height)
    camera = _chosen_view(view, width, height, path, gaussians, info, start)
    shown = {
        **file,
        "count": info.count,
        "total": info.total,
        "sh_degree": info.sh_degree,
        "width": width,
        "height": height,
        "view": poses_of(camera)[0],
        "cameras": [] if path is None else poses_of(path[:: -(-len(path) // MAX_CAMERAS)]),
    }
    distance = float(torch.linalg.vector_norm(camera.positions[0].double().cpu() - torch.tensor(info.center).double()))
    return shown, to_load3d(camera, 0, distance or 1.0), _picture(run, gaussians, camera)


def _chosen_view(
    view: str,
    width: int,
    height: int,
    path: Cameras | None,
    gaussians: Gaussians,
    info: StreamInfo,
    start: Cameras | None = None,
) -> Cameras:
    """One camera of the given size: the pose of ``view``, else ``start``, else the path's first, else one that sees the
    scene."""
    from ..flashworld_core.geometry import intrinsics_from_vertical_fov, pose, quats_to_matrices, vertical_fov_degrees

    fov = DEFAULT_FOV
    if start is not None and not view.strip():
        return start
    if path is not None:
        fov = float(vertical_fov_degrees(path.intrinsics[0].double().cpu(), path.height))
    if view.strip():
        position, quaternion, own_fov = parse_view(view)
        fov = own_fov or fov
        c2w = pose(quats_to_matrices(quaternion[None]), position[None])
    elif path is not None:
        c2w = path.camera_to_world[:1].double().cpu()
    else:
        c2w = torch.eye(4, dtype=torch.float64)[None]
        if "generator" not in gaussians.metadata:  # generated scenes are seen from the origin, others from in front
            narrow = math.atan(math.tan(math.radians(fov) / 2) * min(1.0, width / height))
            c2w[0, :3, 3] = torch.tensor(info.center) - torch.tensor([0, 0, info.radius / math.sin(narrow)])
    intrinsics = intrinsics_from_vertical_fov(fov, width, height)
    return Cameras(c2w.float(), intrinsics[None].float(), width, height)


def parse_view(text: str) -> tuple[torch.Tensor, torch.Tensor, float | None]:
    """Position [3], quaternion wxyz [4] and vertical field of view in degrees (None: not named) of a ``view`` value.

    Raises:
        FlashWorldError: not a pose.
    """
    try:
        value = json.loads(text)
        position = torch.tensor([float(v) for v in value["position"]], dtype=torch.float64)
        quaternion = torch.tensor([float(v) for v in value["quaternion"]], dtype=torch.float64)
        fov = value.get("vertical_fov_degrees")
        fov = None if fov is None else float(fov)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FlashWorldError(
            "view is no camera pose; clear the field, or press Use this view in the viewer to set it."
        ) from error
    numbers = torch.cat([position, quaternion])
    if len(position) != 3 or len(quaternion) != 4 or not bool(torch.isfinite(numbers).all()):
        raise FlashWorldError("view needs a position of three and a quaternion of four finite numbers.")
    if float(position.abs().max()) > 1e9 or not 1e-8 < float(quaternion.norm()) < 1e9:
        raise FlashWorldError("view holds numbers out of range; press Use this view in the viewer to set it anew.")
    if fov is not None and not 0.01 <= fov <= 179.9:
        raise FlashWorldError(f"view: vertical_fov_degrees must be between 0.01 and 179.9, got {fov}.")
    return position, quaternion, fov


def _picture(run: NodeRun, gaussians: Gaussians, camera: Cameras) -> torch.Tensor:
    """[1, H, W, 4] the view with straight (not premultiplied) alpha, as picture files have it."""
    from ..flashworld_core.rendering.render import render

    seen = render(
        gaussians,
        camera,
        modes=("rgb", "alpha"),
        background="black",
        progress=run.progress,
        should_stop=run.should_stop,
    )
    alpha = seen.alpha[..., None]
    return sockets.image_out(torch.cat([seen.rgb / alpha.clamp_min(1e-4), alpha], dim=-1))
