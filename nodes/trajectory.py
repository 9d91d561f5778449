"""FlashWorld Camera Path: a preset, key poses or a file as a FLASHWORLD_TRAJECTORY."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.trajectories.names import EASINGS, PRESETS
from . import sockets
from .comfyui import api, folders
from .comfyui.api import io
from .comfyui.run import NodeRun
from .sockets import MAX_FRAMES, MAX_SIDE
from .trajectory_files import path_names, read_world_path, world_inputs

if TYPE_CHECKING:
    from ..flashworld_core.cameras import Cameras

TITLE = "FlashWorld Camera Path"
SOURCES = ("preset", "keyframes", "file")
NO_FILE = "none"
CAMERA_SOCKETS = 50
WAN_TITLE = "Wan Camera Embedding"
WAN_CAMERA_MOVED = (
    "Camera Path no longer makes wan_camera. Add the node Wan Camera Embedding, connect Camera Path's trajectory to "
    "it, and its wan_camera here."
)


class CameraPath(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        moves = "; ".join(f"{p.name}: {p.default_amount:g} {p.unit}" for p in PRESETS.values() if p.unit)
        return api.schema(
            node_id="FlashWorld_CameraPath",
            display_name=TITLE,
            category="FlashWorld",
            description="The path the camera takes through the scene. Generate Scene makes the scene from its views; "
            "Render Scene Views films along it.",
            search_aliases=["camera", "trajectory", "camera path", "keyframes", "orbit", "dolly"],
            inputs=[
                api.input(
                    io.Combo,
                    "source",
                    options=list(SOURCES),
                    default="preset",
                    tooltip="Where the path comes from: a move by name, key poses set in the editor, or a file. "
                    "Cameras connected below are key poses too and come before all of these.",
                ),
                api.input(
                    io.Combo,
                    "preset",
                    options=list(PRESETS),
                    default="orbit",
                    tooltip="The move of source preset. orbit and arc circle the point ahead, dolly goes forward or "
                    "back, truck sideways, pedestal up and down, pan and tilt turn on the spot, crane rises while "
                    "looking at the point ahead.",
                ),
                api.input(
                    io.Float,
                    "amount",
                    default=30.0,
                    min=-10_000.0,
                    max=10_000.0,
                    step=0.1,
                    round=0.0001,
                    tooltip="How far the preset goes; a negative amount goes the other way. Degrees for turns and "
                    f"circles, scene units for the rest. Sensible amounts: {moves}.",
                ),
                api.input(
                    io.String,
                    "moves",
                    default="",
                    advanced=True,
                    tooltip="More moves after the preset, each with its amount, joined by +: dolly_in:0.3+pan:10. They "
                    "share the frames evenly. Empty: only the preset.",
                ),
                api.input(
                    io.Int,
                    "frames",
                    default=24,
                    min=1,
                    max=MAX_FRAMES,
                    tooltip="How many cameras stand along the path: as many views are generated, or frames rendered. "
                    "FlashWorld was trained on 24; more take more time and memory.",
                ),
                api.input(
                    io.Int,
                    "width",
                    default=704,
                    min=16,
                    max=MAX_SIDE,
                    step=16,
                    tooltip="Width of the views in pixels, for generation a multiple of 32. The official model was "
                    "trained at 704x480, the embedded tiny one at 96x64.",
                ),
                api.input(
                    io.Int,
                    "height",
                    default=480,
                    min=16,
                    max=MAX_SIDE,
                    step=16,
                    tooltip="Height of the views in pixels, for generation a multiple of 32. The field of view is "
                    "measured along it.",
                ),
                api.input(
                    io.Float,
                    "field_of_view",
                    default=60.0,
                    min=1.0,
                    max=170.0,
                    step=0.1,
                    round=0.001,
                    tooltip="How much the lens takes in from top to bottom, in degrees: 60 is like a phone held level, "
                    "larger is wider, smaller is a telephoto. Key poses may have their own.",
                ),
                api.input(
                    io.Float,
                    "focus_distance",
                    default=1.0,
                    min=0.001,
                    max=10_000.0,
                    step=0.01,
                    round=0.0001,
                    tooltip="How far ahead the subject is, in scene units. orbit, arc, spiral and crane turn about "
                    "that point: a larger distance makes a wider circle. 3D previews orbit it too.",
                ),
                api.input(
                    io.Combo,
                    "easing",
                    options=list(EASINGS),
                    default="linear",
                    tooltip="How the speed changes: linear is even, ease_in starts slowly, ease_out ends slowly, "
                    "ease_in_out both.",
                ),
                api.input(
                    io.Float,
                    "turns",
                    default=2.0,
                    min=0.01,
                    max=100.0,
                    step=0.1,
                    round=0.001,
                    advanced=True,
                    tooltip="How often the preset spiral goes round. Other presets do not use it.",
                ),
                api.input(
                    io.String,
                    "keyframes",
                    default="",
                    tooltip="The key poses of source keyframes, as the path editor writes them (JSON). Also says how "
                    "connected cameras are joined: curve, timing and loop. Empty: a camera that stands still.",
                ),
                api.input(
                    io.Combo,
                    "path_file",
                    options=[NO_FILE, *path_names()],
                    default=NO_FILE,
                    tooltip="The file of source file, in ComfyUI's input folder: FlashWorld request, nerfstudio "
                    "transforms.json or camera_path.json, the 3DGS trainer's cameras.json, RealEstate10K / CameraCtrl "
                    "text, or a COLMAP folder. Its views are spread over the frames, its pictures cropped to the size "
                    "above.",
                ),
                *api.grow(
                    api.Camera,
                    "cameras",
                    "camera",
                    "Cameras of 3D nodes (Create Camera Info, Preview Splat, Preview Scene) as key poses, in this "
                    "order; a list of cameras is as many key poses. If any is connected, the path goes through them, "
                    "and preset, keyframes and file are not used.",
                    CAMERA_SOCKETS,
                ),
                *world_inputs(),
            ],
            outputs=[
                api.output(api.Trajectory, "trajectory", tooltip="The camera path."),
                api.output(
                    api.Camera, "camera", tooltip="The first view, for 3D previews and Render Splat to begin there."
                ),
                api.output(
                    api.WanCameraEmbedding,
                    "wan_camera",
                    tooltip="Moved to the node Wan Camera Embedding: connect trajectory to it.",
                ),
                api.output(
                    api.Camera,
                    "cameras",
                    tooltip="Every view of the path as one list of 3D cameras, for nodes that take several. Nodes that "
                    "take one want the output camera.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, path_file=NO_FILE, cameras=None):
        """Any name passes here: the host's list may be older than the file, and only source file reads it.

        Hosts with growing inputs hand ``cameras`` over whether it is asked for or not.
        """
        return True

    @classmethod
    def fingerprint_inputs(cls, source="preset", path_file=NO_FILE, **_):
        """A changed file is another path."""
        return folders.input_fingerprint(path_file) if source == "file" else ""

    @classmethod
    def execute(
        cls, source, preset, amount, moves, frames, width, height, field_of_view, focus_distance, easing, turns,
        keyframes, path_file=NO_FILE, up="as in the file", dataparser="not", image_width=0, image_height=0, **cameras,
    ):  # fmt: skip
        from ..flashworld_core.trajectories.comfyui import list_to_load3d

        with NodeRun(TITLE) as run:
            sockets.checked_choice("source", source, SOURCES)
            sockets.checked_choice("easing", easing, EASINGS)
            lens = {"width": width, "height": height, "vertical_fov_degrees": field_of_view, "easing": easing}
            connected = api.grown(cameras, "cameras", "camera")
            if connected or source == "keyframes":
                path = path_of_keyframes(keyframes, connected, frames, **lens)
            elif source == "file":
                world = {"up": up, "dataparser": dataparser, "image_width": image_width, "image_height": image_height}
                path = path_of_file(path_file, frames, width, height, easing, run.say, **world)
            else:
                path = path_of_preset(preset, amount, moves, frames, focus_distance=focus_distance, turns=turns, **lens)
            views = list_to_load3d(path, focus_distance)
            return run.output(path, views[0], api.moved(WAN_CAMERA_MOVED), views)


class WanCamera(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_WanCamera",
            display_name=WAN_TITLE,
            category="FlashWorld",
            description="A camera path for Wan's camera control: connect it to Wan Camera Image To Video.",
            search_aliases=["wan camera", "camera embedding", "wan fun camera", "plucker"],
            inputs=[
                api.input(
                    api.Trajectory,
                    "trajectory",
                    tooltip="The camera path. Wan's length must be a multiple of 4 plus 1: other paths are resampled "
                    "to the next such length. Give Wan Camera Image To Video the same width and height.",
                )
            ],
            outputs=[
                api.output(
                    api.WanCameraEmbedding,
                    "wan_camera",
                    tooltip="The path as Wan's networks take it: a ray for every pixel of every frame.",
                )
            ],
        )

    @classmethod
    def execute(cls, trajectory):
        from ..flashworld_core.trajectories.comfyui import wan_camera_embedding, wan_length

        with NodeRun(WAN_TITLE) as run:
            path = sockets.checked_trajectory(trajectory)
            if wan_length(len(path)) != len(path):
                run.say(f"{len(path)} views became {wan_length(len(path))}: Wan takes a multiple of 4 plus 1.")
            return api.NodeOutput(wan_camera_embedding(path))


def path_of_preset(preset: str, amount: float, moves: str, frames: int, **options) -> Cameras:
    """A preset and the ``moves`` after it; ``options`` as in `presets.make_trajectory`."""
    from ..flashworld_core.trajectories.presets import make_trajectory

    more = moves.strip().removeprefix("+").strip()
    return make_trajectory(f"{preset}:{amount!r}{'+' if more else ''}{more}", views=frames, **options)


def path_of_keyframes(text: str, connected: list, frames: int, **options) -> Cameras:
    """The document's path, or the connected LOAD3D_CAMERAs (and lists of them) joined in the document's way."""
    from ..flashworld_core.trajectories.document import MAX_KEYFRAMES, parse_document, sample_document

    document = parse_document(text)
    if connected:
        # They have no times; where the document goes by times, the speed is even instead.
        timing = "constant_speed" if document.timing == "times" else document.timing
        size = options["width"], options["height"]
        keys = tuple(key for i, value in enumerate(connected) for key in _key_poses(value, i, *size))
        if len(keys) > MAX_KEYFRAMES:
            raise FlashWorldError(f"{len(keys):,} cameras are connected; a path takes {MAX_KEYFRAMES:,} key poses.")
        document = dataclasses.replace(document, timing=timing, keyframes=keys)
    return sample_document(document, frames=frames, **options)


def _key_poses(value, number: int, width: int, height: int) -> tuple:
    """The key poses of one socket: a LOAD3D_CAMERA, or every one of a list of them."""
    from ..flashworld_core.trajectories.comfyui import cameras_from_load3d
    from ..flashworld_core.trajectories.document import document_from_cameras

    return document_from_cameras(cameras_from_load3d(value, width, height, f"camera{number}")).keyframes


def path_of_file(name: str, frames: int, width: int, height: int, easing: str, notify=None, **world) -> Cameras:
    """The path in a file of the input folder, its pacing kept; ``world`` as in `read_world_path`."""
    from ..flashworld_core.trajectories.keyframes import resample

    if name == NO_FILE:
        raise FlashWorldError(
            "source is file, but path_file is none. Put a camera path into ComfyUI's input folder, press R to refresh "
            "the list, and choose it; or choose another source."
        )
    cameras = read_world_path(name, (width, height), notify, **world).fitted(width, height)
    return resample(cameras, frames, timing="even", easing=easing)
