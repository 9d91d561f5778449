"""Export Scene: write a SPLAT to the output folder, with a preview image and its metadata."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.formats.scenes import FORMATS, writable_formats
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
WRITABLE = {FORMATS[name].extensions[0].removeprefix("."): name for name in writable_formats()}  # the list: the format
DEGREES = {"scene's own": None, "0": 0, "1": 1, "2": 2, "3": 3}
QUALITIES, AXES = ("default", "high"), ("source", "y-up")
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
                    options=list(WRITABLE),
                    default="ply",
                    tooltip="Kind of file. ply is what every 3D Gaussian program reads, in full precision: 60 to 240 "
                    "bytes a Gaussian. spz is a sixth of that, for delivery; sog a tenth, for the web; compressed.ply "
                    "for SuperSplat; splat and ksplat for older web viewers; glb for engines; html is a page that "
                    "shows the scene in any browser, without a network.",
                ),
                api.input(
                    api.Camera,
                    "camera",
                    optional=True,
                    tooltip="The view of the preview picture. Left open, it is the view the scene was made from, or "
                    "one that takes all of it in; of a list, the first. The scene file is the same.",
                ),
                api.input(
                    io.Combo,
                    "sh_degree",
                    options=list(DEGREES),
                    default="scene's own",
                    optional=True,
                    advanced=True,
                    tooltip="How much of the view-dependent color goes into the file. 0 makes it smallest and the "
                    "color the same from everywhere; some viewers take only 0 or 3. splat has none, ksplat at most 2.",
                ),
                api.input(
                    io.Combo,
                    "quality",
                    options=list(QUALITIES),
                    default="default",
                    optional=True,
                    advanced=True,
                    tooltip="For spz: high keeps finer color and positions, the file is a quarter larger. For sog: "
                    "high takes longer for a slightly smaller file. Others have no choice.",
                ),
                api.input(
                    io.Combo,
                    "axes",
                    options=list(AXES),
                    default="source",
                    optional=True,
                    advanced=True,
                    tooltip="source keeps y down and z ahead, which viewers expect of splat files. y-up turns the "
                    "scene for programs that show it upside down. glb has y up in any case.",
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
                    tooltip="Write at most so many, the most visible ones. 0 writes all.",
                ),
                api.input(
                    api.Trajectory,
                    "trajectory",
                    optional=True,
                    tooltip="A camera path that an html page plays; it opens at the first view. Other files have none.",
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
    def execute(
        cls,
        splat,
        filename_prefix,
        format="ply",
        camera=None,
        sh_degree="scene's own",
        quality="default",
        axes="source",
        max_gaussians=0,
        trajectory=None,
    ):
        from ..flashworld_core.ops.select import budget

        with NodeRun(TITLE) as run:
            for name, value, choices in (
                ("sh_degree", sh_degree, DEGREES),
                ("quality", quality, QUALITIES),
                ("axes", axes, AXES),
            ):
                sockets.checked_choice(name, value, choices)
            path = None if trajectory is None else sockets.checked_trajectory(trajectory)
            camera = None if camera is None else sockets.first_camera(camera, run.say)
            scene = sockets.renderable_scene(splat, run.say)
            if max_gaussians and max_gaussians < len(scene):
                scene = budget(scene, max_gaussians, sockets.viewpoints(scene))
            story = {} if metadata_disabled() else workflow_of(cls.hidden)
            options = {"sh_degree": DEGREES[sh_degree], "quality": quality, "axes": axes, "cameras": path}
            target = export(run, scene, filename_prefix, format, camera, story, options)
            picture = {**target.result, "filename": target.beside(".png").name}
            ui = {"3d": [target.result], "images": [picture]}
            return run.output(api.File3D(str(target.path), format), ui=ui)


def export(
    run: NodeRun, scene: Gaussians, prefix: str, format: str, camera: dict | None, story: dict, options: dict
) -> folders.OutputFile:
    """Write the scene, then its sidecars. Whatever happens on the way, no part of it stays alone.

    Args:
        camera: LOAD3D_CAMERA of the preview picture, or None.
        story: workflow and prompt, by the host's names for them.
        options: of the writer; those the format does not have are left out.

    Raises:
        FlashWorldError: a name or format that cannot be used, a scene or camera that cannot be drawn, a full disk.
        Cancelled: the user stopped it.
    """
    from ..flashworld_core.formats.scenes import write_scene
    from ..flashworld_core.media.export import save_json, save_png

    if format not in WRITABLE:
        raise FlashWorldError(f"there is no format {format!r}; choose one of: {', '.join(WRITABLE)}.")
    known = FORMATS[WRITABLE[format]]
    view = preview_camera(scene, camera)
    target = folders.OutputFile(prefix, f".{format}")
    picture = _preview(run, scene, view)
    written: list[Path] = []
    try:
        written.append(target.path)
        if options["cameras"] is None:  # a page opens where the preview picture was taken
            options = {**options, "cameras": view}
        options = {**options, "title": target.path.stem.strip("_"), "progress": run.part(*_WRITE)}
        taken = {key: value for key, value in options.items() if key in (*known.options, "progress")}
        write_scene(target.path, scene, format=WRITABLE[format], notify=run.say, should_stop=run.should_stop, **taken)
        written.append(target.beside(".json"))
        save_json(written[-1], _sidecar(target, scene, view, story, options["axes"]))
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
    from ..flashworld_core.rendering.maps import render_maps
    from .comfyui.memory import on_render_device

    def work(device):
        return render_maps(
            scene,
            view,
            background=(1.0, 1.0, 1.0),
            device=device,
            progress=run.part(*_PREVIEW),
            should_stop=run.should_stop,
        )

    return on_render_device(scene, work, run.say).images[0]


def _sidecar(target: folders.OutputFile, scene: Gaussians, view: Cameras, story: dict, axes: str) -> dict:
    """What the JSON file beside the scene says, free of what JSON cannot hold."""
    from ..flashworld_core.formats.scenes.ply_header import AXES_COMMENTS
    from ..flashworld_core.trajectories.comfyui import to_load3d

    content = {
        "file": target.filename,
        "gaussians": len(scene),
        "sh_degree": scene.sh_degree,
        "axes": AXES_COMMENTS["y-up" if axes == "y-up" or target.filename.endswith(".glb") else "source"].removeprefix(
            "axes: "
        ),
        "metadata": scene.metadata,
        "preview_camera": to_load3d(view),
        **story,
    }
    return json.loads(json.dumps(content, default=str), parse_constant=lambda name: None)
