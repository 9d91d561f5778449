"""Export Scene: a SPLAT as a file in the output folder, with its story beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.formats.scenes import supported_extensions
from . import sockets
from .comfyui import api, folders
from .comfyui.api import io
from .comfyui.run import NodeRun, metadata_disabled

if TYPE_CHECKING:
    from torch import Tensor

    from ..flashworld_core.cameras import Cameras
    from ..flashworld_core.gaussians import Gaussians

TITLE = "Export Scene"
PREVIEW_SIDE = 704  # pixels of the longer side
PREVIEW_ASPECT = 704 / 480  # where the camera names none
_PREVIEW, _WRITE = (0.0, 0.2), (0.2, 1.0)  # parts of the progress bar


class ExportScene(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_ExportScene",
            display_name=TITLE,
            category="FlashWorld",
            description="Writes a 3D scene into ComfyUI's output folder, with a preview picture (drop it on the canvas "
            "to get this workflow back) and a JSON file that tells how the scene was made.",
            search_aliases=["save splat", "export ply", "gaussian splat file", "save 3d"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                api.input(api.Splat, "splat", tooltip="The scene to write, from any node that makes a SPLAT."),
                api.input(
                    io.String,
                    "filename_prefix",
                    default="FlashWorld/scene",
                    tooltip="Where in the output folder, and how the names begin; a number and the endings follow.",
                ),
                api.input(
                    io.Combo,
                    "format",
                    options=[extension.removeprefix(".") for extension in supported_extensions()],
                    default="ply",
                    tooltip="Kind of file. ply is what every 3D Gaussian program reads: all numbers in full precision, "
                    "about 60 to 240 bytes for each Gaussian.",
                ),
                api.input(
                    api.Camera,
                    "camera",
                    optional=True,
                    tooltip="The view of the preview picture. Left open, it is the view the scene was made from, or "
                    "one that takes all of it in. The scene file is the same.",
                ),
            ],
            outputs=[
                api.output(
                    api.SplatFile,
                    "model_3d",
                    tooltip="The file, for Preview Splat, Save Splat and Get Splat.",
                )
            ],
        )

    @classmethod
    def execute(cls, splat, filename_prefix, format="ply", camera=None):
        with NodeRun(TITLE) as run:
            scene = sockets.renderable_scene(splat)
            story = {} if metadata_disabled() else workflow_of(cls.hidden)
            target = export(run, scene, filename_prefix, format, camera, story)
            picture = {**target.result, "filename": target.beside(".png").name}
            ui = {"3d": [target.result], "images": [picture]}
            return run.output(api.File3D(str(target.path), format), ui=ui)


def export(
    run: NodeRun, scene: Gaussians, prefix: str, format: str, camera: dict | None, story: dict
) -> folders.OutputFile:
    """Write the scene, then its sidecars. Whatever happens on the way, no part of it stays alone.

    Args:
        camera: LOAD3D_CAMERA of the preview picture, or None.
        story: workflow and prompt, by the host's names for them.

    Raises:
        FlashWorldError: a name or format that cannot be used, a scene or camera that cannot be drawn, a full disk.
        Cancelled: the user stopped it.
    """
    from ..flashworld_core.formats.scenes import write_scene
    from ..flashworld_core.media.export import save_json, save_png

    if f".{format}" not in supported_extensions():
        known = ", ".join(extension.removeprefix(".") for extension in supported_extensions())
        raise FlashWorldError(f"there is no format {format!r}; choose one of: {known}.")
    view = preview_camera(scene, camera)
    target = folders.OutputFile(prefix, f".{format}")
    picture = _preview(run, scene, view)
    written: list[Path] = []
    try:
        written.append(target.path)
        write_scene(target.path, scene, progress=run.part(*_WRITE), should_stop=run.should_stop)
        written.append(target.beside(".json"))
        save_json(written[-1], _sidecar(target, scene, view, story))
        written.append(target.beside(".png"))
        save_png(written[-1], picture, {key: json.dumps(value) for key, value in story.items()})
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    name = "/".join(filter(None, (target.subfolder.replace(os.sep, "/"), target.filename)))
    run.say(f"Saved {name}: {len(scene):,} Gaussians, {target.path.stat().st_size / 2**20:.1f} MiB")
    return target


def workflow_of(hidden) -> dict:
    """What the host knows of the running workflow, by the names its pictures carry: prompt, workflow and others."""
    story = {} if hidden.prompt is None else {"prompt": hidden.prompt}
    return {**story, **(hidden.extra_pnginfo or {})}


def preview_camera(scene: Gaussians, camera: dict | None) -> Cameras:
    """The given view, else the one the scene's metadata names, else one that takes the scene in."""
    from ..flashworld_core.ops.measure import framing_camera
    from ..flashworld_core.trajectories.comfyui import from_load3d

    if camera is not None:
        if not isinstance(camera, dict):
            raise FlashWorldError(f"the camera input needs a LOAD3D_CAMERA, got {type(camera).__name__}.")
        return from_load3d(camera, *_size(camera))
    known = sockets.camera_of(scene)
    return framing_camera(scene, *_size({})) if known is None else from_load3d(known, *_size(known))


def _size(camera: dict) -> tuple[int, int]:
    """Width and height of the preview in the camera's aspect."""
    aspect = camera.get("aspect")
    if isinstance(aspect, bool) or not isinstance(aspect, (int, float)) or not 0.1 <= aspect <= 10:
        aspect = PREVIEW_ASPECT
    return (PREVIEW_SIDE, round(PREVIEW_SIDE / aspect)) if aspect >= 1 else (round(PREVIEW_SIDE * aspect), PREVIEW_SIDE)


def _preview(run: NodeRun, scene: Gaussians, view: Cameras) -> Tensor:
    """[H, W, 3] picture of the scene on white."""
    from ..flashworld_core.rendering.constants import matching_low_pass
    from ..flashworld_core.rendering.maps import film
    from .comfyui.memory import on_render_device

    def work(device):
        return film(
            scene,
            view,
            background=(1.0, 1.0, 1.0),
            low_pass=matching_low_pass(scene.metadata, view),
            device=device,
            progress=run.part(*_PREVIEW),
            should_stop=run.should_stop,
        )

    return on_render_device(scene, work, run.say).images[0]


def _sidecar(target: folders.OutputFile, scene: Gaussians, view: Cameras, story: dict) -> dict:
    """What the JSON file beside the scene says, free of what JSON cannot hold."""
    from ..flashworld_core.trajectories.comfyui import to_load3d

    content = {
        "file": target.filename,
        "gaussians": len(scene),
        "sh_degree": scene.sh_degree,
        "axes": "x right, y down, z forward (OpenCV)",
        "metadata": scene.metadata,
        "preview_camera": to_load3d(view),
        **story,
    }
    return json.loads(json.dumps(content, default=str), parse_constant=lambda name: None)
