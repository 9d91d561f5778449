"""ComfyUI's dialect of the pack: V3 nodes that wire sockets to `flashworld_core`. No tensor math here."""

from __future__ import annotations

from .clean import CleanScene
from .comfyui import api, folders
from .export import ExportScene
from .field import FieldToMesh, FieldToSplat
from .generate import Generate
from .image_to_object import ImageToObject
from .load import LoadModel
from .load_scene import LoadScene
from .place import PlaceObject
from .preview import PreviewScene
from .render import RenderViews
from .trajectory import CameraPath, WanCamera
from .trajectory_files import LoadCameraPath, SaveCameraPath

NODES: list[type[api.ComfyNode]] = [
    LoadModel,
    CameraPath,
    LoadCameraPath,
    SaveCameraPath,
    WanCamera,
    Generate,
    ImageToObject,
    FieldToMesh,
    FieldToSplat,
    PlaceObject,
    LoadScene,
    RenderViews,
    CleanScene,
    ExportScene,
    PreviewScene,
]


def extension() -> api.Extension:
    """What ComfyUI asks for when it loads the pack."""
    folders.register_model_folder()
    return _Extension()


class _Extension(api.Extension):
    async def get_node_list(self) -> list[type[api.ComfyNode]]:
        return NODES
