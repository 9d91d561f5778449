"""Load Camera Path and Save Camera Path: every path format of the core, in ComfyUI's input and output folders."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.formats.cameras import FORMATS
from . import sockets
from .comfyui import api, folders
from .comfyui.api import io
from .comfyui.run import NodeRun
from .sockets import MAX_FRAMES, MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..flashworld_core.cameras import Cameras

LOAD_TITLE, SAVE_TITLE = "Load Camera Path", "Save Camera Path"
EXTENSIONS = {"flashworld": ".json", "nerfstudio": ".json", "inria": ".json", "colmap": "", "realestate10k": ".txt"}
UP = {"as in the file": None, "z up": "z", "y up": "y"}  # the node's words: the readers'
DATAPARSERS = ("not", "beside the file")


class LoadCameraPath(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_LoadCameraPath",
            display_name=LOAD_TITLE,
            category="FlashWorld",
            description="Reads a camera path from ComfyUI's input folder: FlashWorld request JSON, nerfstudio "
            "transforms.json or camera_path.json, the 3DGS trainer's cameras.json, RealEstate10K / CameraCtrl "
            "text, or a COLMAP folder. What a file is, its content tells.",
            search_aliases=["camera path", "trajectory", "transforms.json", "colmap", "nerfstudio", "realestate10k"],
            inputs=[
                api.input(
                    io.Combo,
                    "file",
                    options=path_names(),
                    tooltip="A file or COLMAP folder in ComfyUI's input folder. New ones appear after pressing R.",
                ),
                api.input(
                    io.Int,
                    "frames",
                    default=0,
                    min=0,
                    max=MAX_FRAMES,
                    tooltip="How many cameras the path shall have; they are spread along it at its own pace. 0 keeps "
                    "those of the file.",
                ),
                api.input(
                    io.Int,
                    "width",
                    default=0,
                    min=0,
                    max=MAX_SIDE,
                    step=16,
                    tooltip="Width of the views in pixels; another shape than the file's crops them in the middle. 0 "
                    "keeps the file's, which RealEstate10K files do not have.",
                ),
                api.input(
                    io.Int,
                    "height",
                    default=0,
                    min=0,
                    max=MAX_SIDE,
                    step=16,
                    tooltip="Height of the views in pixels, as with width. 0 keeps the file's.",
                ),
                *world_inputs(),
            ],
            outputs=[
                api.output(api.Trajectory, "trajectory", tooltip="The camera path."),
                api.output(api.Camera, "camera", tooltip="The first view, for 3D previews to begin there."),
                api.output(
                    api.Camera,
                    "cameras",
                    tooltip="Every view of the path as one list of 3D cameras, for nodes that take several.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file):
        """Any name passes here: files may arrive after the host made its list."""
        return True

    @classmethod
    def fingerprint_inputs(cls, file, **_):
        """A changed file is another path."""
        return folders.input_fingerprint(file)

    @classmethod
    def execute(
        cls, file, frames=0, width=0, height=0, up="as in the file", dataparser="not", image_width=0, image_height=0
    ):
        from ..flashworld_core.trajectories.comfyui import list_to_load3d
        from ..flashworld_core.trajectories.keyframes import resample

        with NodeRun(LOAD_TITLE) as run:
            view_size = (width, height) if width and height else None
            world = {"up": up, "dataparser": dataparser, "image_width": image_width, "image_height": image_height}
            cameras = read_world_path(file, view_size, run.say, **world)
            cameras = cameras.fitted(width or cameras.width, height or cameras.height)
            if frames and frames != len(cameras):
                cameras = resample(cameras, frames, timing="even")
            run.say(f"{len(cameras)} views of {cameras.width}x{cameras.height}")
            views = list_to_load3d(cameras)
            return run.output(cameras, views[0], views)


def world_inputs() -> list:
    """Inputs of what a path file may not say: its axes, its world, the size of its images. See `read_world_path`."""
    return [
        api.input(
            io.Combo,
            "up",
            options=list(UP),
            default="as in the file",
            optional=True,
            advanced=True,
            tooltip="Which axis points up in the file's world; choose what was chosen for the scene. "
            "transforms.json always has z up, whatever stands here.",
        ),
        api.input(
            io.Combo,
            "dataparser",
            options=list(DATAPARSERS),
            default="not",
            optional=True,
            advanced=True,
            tooltip="For scenes trained with nerfstudio, which moves and scales the world: beside the file "
            "reads dataparser_transforms.json there and moves the cameras along.",
        ),
        api.input(
            io.Int,
            "image_width",
            default=0,
            min=0,
            max=65536,
            optional=True,
            advanced=True,
            tooltip="Width in pixels of the images the file's focal lengths are about, where neither the file "
            "nor images beside it say it. A wrong one means another lens.",
        ),
        api.input(
            io.Int,
            "image_height",
            default=0,
            min=0,
            max=65536,
            optional=True,
            advanced=True,
            tooltip="Height of those images in pixels, as with image_width.",
        ),
    ]


class SaveCameraPath(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_SaveCameraPath",
            display_name=SAVE_TITLE,
            category="FlashWorld",
            description="Writes a camera path into ComfyUI's output folder.",
            search_aliases=["camera path", "trajectory", "transforms.json", "colmap", "nerfstudio", "realestate10k"],
            is_output_node=True,
            inputs=[
                api.input(api.Trajectory, "trajectory", tooltip="The camera path to write."),
                api.input(
                    io.String,
                    "filename_prefix",
                    default="FlashWorld/path",
                    tooltip="Where in the output folder, and how the name begins; a number and the ending follow.",
                ),
                api.input(
                    io.Combo,
                    "format",
                    options=list(FORMATS),
                    default="flashworld",
                    tooltip="flashworld: FlashWorld's request JSON. nerfstudio: transforms.json. colmap: a folder with "
                    "images.txt and cameras.txt. inria: cameras.json of the 3DGS trainer. realestate10k: text as "
                    "CameraCtrl and others read it, without the picture size.",
                ),
            ],
            outputs=[api.output(api.Trajectory, "trajectory", tooltip="The same camera path, to go on with.")],
        )

    @classmethod
    def execute(cls, trajectory, filename_prefix, format="flashworld"):
        from ..flashworld_core.formats.cameras import write_cameras

        with NodeRun(SAVE_TITLE) as run:
            sockets.checked_choice("format", format, FORMATS)
            cameras = sockets.checked_trajectory(trajectory)
            target = folders.OutputFile(filename_prefix, EXTENSIONS.get(format, ""), cameras.width, cameras.height)
            try:
                write_cameras(target.path, cameras, format)
            except BaseException:
                if format == "colmap":  # the folder is new: its number was free
                    shutil.rmtree(target.path, ignore_errors=True)
                raise
            name = "/".join(filter(None, (target.subfolder.replace("\\", "/"), target.filename)))
            run.say(f"Saved {name}")
            return run.output(trajectory, ui={"text": [name]})


_READ_EXTENSIONS = (".json", ".txt", ".bin")
_POSES, _LENSES, _POINTS = "images", "cameras", "points3D"  # of a COLMAP folder, .txt or .bin


def path_names() -> list[str]:
    """Files and COLMAP folders below the input folder that may be camera paths, for lists.

    A folder with images and cameras (.txt or .bin) stands for the files in it. What others hold, only reading tells.
    """
    files = folders.input_files(_READ_EXTENSIONS)
    everything, models, inside = set(files), set(), set()
    for ending in (".txt", ".bin"):
        for name in files:
            folder = name.removesuffix(f"/{_POSES}{ending}")
            if folder != name and f"{folder}/{_LENSES}{ending}" in everything:
                models.add(folder)
                inside |= {f"{folder}/{part}{ending}" for part in (_POSES, _LENSES, _POINTS, "rigs", "frames")}
    # Other .bin files are weights or anything.
    return sorted({*models, *(name for name in files if name not in inside and not name.endswith(".bin"))})


def read_world_path(
    name: str,
    view_size: tuple[int, int] | None,
    notify: Callable[[str], None] | None,
    up: str = "as in the file",
    dataparser: str = "not",
    image_width: int = 0,
    image_height: int = 0,
) -> Cameras:
    """`read_path` with the values of `world_inputs`.

    Raises:
        FlashWorldError: as `read_path`, and values that are not on the lists.
    """
    sockets.checked_choice("up", up, UP)
    sockets.checked_choice("dataparser", dataparser, DATAPARSERS)
    return read_path(
        name,
        image_width or None,
        image_height or None,
        view_size=view_size,
        up=UP[up],
        with_dataparser=dataparser != "not",
        notify=notify,
    )


def read_path(
    name: str, width: int | None = None, height: int | None = None, *, with_dataparser: bool = False, **options
) -> Cameras:
    """The camera path called ``name`` (see `folders.input_path`).

    Args:
        width, height: size in pixels of the file's images, where it does not say.
        with_dataparser: the cameras move as dataparser_transforms.json beside the file says.
        options: view_size, up, notify, as in `formats.cameras.read_cameras`.

    Raises:
        FlashWorldError: no such file, or none this program reads; says which and what to do.
    """
    from ..flashworld_core.formats.cameras import dataparser, read_cameras

    path = folders.input_path(name, "the camera path")
    root = folders.root_of(path)
    try:
        moved = dataparser.find(path) if with_dataparser else None
        if with_dataparser and moved is None:
            raise FlashWorldError(f"There is no {dataparser.NAME} beside it; put it there, or set dataparser to not.")
        return read_cameras(path, width, height, root=root, dataparser=moved, **options)
    except FlashWorldError as error:
        raise FlashWorldError(
            f"{name!r} cannot be read as a camera path; choose another file, or repair it. {error}"
        ) from error
