"""Load Scene: a splat file of any format, from ComfyUI's input or output folder, as a SPLAT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.formats.scenes import supported_extensions
from . import sockets
from .comfyui import api, folders
from .comfyui.api import io
from .comfyui.run import NodeRun

if TYPE_CHECKING:
    from ..flashworld_core.gaussians import Gaussians

TITLE = "Load Scene"
AXES = {"auto": "auto", "y down": "opencv", "y up": "opengl", "z up": "opencv"}  # the node's words: the readers'
_VIEW_SIZE = (704, 480)  # pixels; the shape of the view that takes a scene in
_NOT_LISTED = (".zip",)  # mostly something else; still opened by name


class LoadScene(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_LoadScene",
            display_name=TITLE,
            category="FlashWorld",
            description="Opens a 3D Gaussian scene from ComfyUI's input or output folder: PLY of any kind (3DGS, 2DGS, "
            "SuperSplat's compressed), SPZ, SOG, .splat, .ksplat, glTF. What a file is, its content tells.",
            search_aliases=[
                "load splat",
                "load ply",
                "open gaussian splat",
                "import 3d",
                "spz",
                "sog",
                "ksplat",
                "glb",
            ],
            inputs=[
                api.input(
                    io.Combo,
                    "file",
                    options=scene_names(),
                    tooltip="A file in ComfyUI's input or output folder, or the folder of an unpacked SOG. The button "
                    "below brings one from your computer; new ones appear after pressing R.",
                ),
                api.input(
                    io.Combo,
                    "axes",
                    options=list(AXES),
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="Which way is up in the file. auto takes what the file says (glTF always does) and else y "
                    "down, as 3D Gaussian Splatting has it. If the scene stands on its head, choose y up; if it lies "
                    "on its side, z up.",
                ),
                api.input(
                    io.Int,
                    "max_gaussians",
                    default=0,
                    min=0,
                    max=100_000_000,
                    step=10_000,
                    optional=True,
                    advanced=True,
                    tooltip="Keep at most so many, the most visible ones. 0 keeps all.",
                ),
            ],
            outputs=[
                api.output(api.Splat, "splat", tooltip="The scene, for any node that takes a SPLAT."),
                api.output(
                    api.Camera,
                    "camera",
                    tooltip="The view the scene was made from, if the file tells it, else one that takes all of it in.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file):
        """Any name passes here: files may arrive after the host made its list."""
        return True

    @classmethod
    def fingerprint_inputs(cls, file, **_):
        """A changed file is another scene."""
        return folders.input_fingerprint(file)

    @classmethod
    def execute(cls, file, axes="auto", max_gaussians=0):
        from ..flashworld_core.formats.scenes import read_scene, scene_info
        from ..flashworld_core.ops.select import budget
        from ..flashworld_core.ops.transform import upright

        with NodeRun(TITLE) as run:
            sockets.checked_choice("axes", axes, AXES)
            path = folders.input_path(file, "the scene")
            info = scene_info(path)
            scene = read_scene(path, frame=AXES[axes], progress=run.progress, should_stop=run.should_stop)
            if axes == "z up":
                scene = upright(scene, "z")
            if not len(scene):
                raise FlashWorldError(f"{file!r} holds no Gaussians; choose another file.")
            if max_gaussians and max_gaussians < len(scene):
                scene = budget(scene, max_gaussians, sockets.viewpoints(scene))
            text = about(info, scene)
            run.say(text)
            return run.output(sockets.splat_from_gaussians(scene), first_view(scene), ui={"text": [text]})


def scene_names() -> list[str]:
    """Scene files and unpacked SOG folders below the input and output folders, for lists."""
    listed = [extension for extension in supported_extensions() if extension not in _NOT_LISTED]
    names = []
    for kind in ("input", "output"):
        metas = (name for name in folders.input_files([".json"], kind) if "/meta.json" in name)
        names += [*folders.input_files(listed, kind), *(name.replace("/meta.json", "") for name in metas)]
    return names


def about(info: dict, scene: Gaussians) -> str:
    """One line on a scene: format, size, degree, what changes the picture, who made it."""
    parts = [info["format"], f"{len(scene):,} Gaussians"]
    if info["gaussians"] is not None and info["gaussians"] != len(scene):
        parts[-1] += f" of {info['gaussians']:,}"
    parts += [f"SH degree {scene.sh_degree}", f"{info['bytes'] / 2**20:.1f} MiB"]
    if info.get("kind") == "2dgs":
        parts.append("flat discs (2DGS)")
    if info.get("filter") == "antialiased":
        parts.append("antialiased filter")
    if info.get("up"):
        parts.append(f"vertical axis {info['up']}")
    made = {"generator": "made by", "seed": "seed"}
    parts += [f"{word} {str(scene.metadata[key])[:60]}" for key, word in made.items() if key in scene.metadata]
    return ", ".join(parts)


def first_view(scene: Gaussians) -> dict[str, Any]:
    """LOAD3D_CAMERA: the view a scene was made from, else one that takes it in."""
    from ..flashworld_core.ops.measure import framing_camera
    from ..flashworld_core.trajectories.comfyui import to_load3d

    return sockets.camera_of(scene) or to_load3d(framing_camera(scene, *_VIEW_SIZE))
