"""The graph that most host tests are made of (the demo picture to a small scene), and looking at what comes out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from host_client import HostClient, Run, output_files
from host_graphs import Graph, Node
from host_server import PACK
from PIL import Image

DEMO = PACK / "flashworld_core" / "assets" / "demo"
PICTURE, PATH = "demo.png", "demo_path.json"  # the demo's files under these names in the host's input folder
INDEX = 4  # the view of the path that is the picture
WIDTH, HEIGHT = 96, 64
SEED = 109
FILE_PATH = {"source": "file", "path_file": PATH, "frames": 8, "width": WIDTH, "height": HEIGHT}


def upload_demo(client: HostClient) -> None:
    """Put the demo's picture and path into the host's input folder."""
    client.upload(PICTURE, (DEMO / "picture.png").read_bytes())
    client.upload(PATH, (DEMO / "cameras.json").read_bytes())


class SceneGraph(Graph):
    """The demo picture to a scene; ``splat``, ``views`` and ``camera`` are the generator's outputs."""

    def __init__(self, object_info: dict[str, Any], picture: bool = True, path: dict[str, Any] | None = None, **make):
        super().__init__(object_info)
        self.model = self.add("FlashWorld_LoadModel")
        self.path: Node = self.add("FlashWorld_CameraPath", **{**FILE_PATH, **(path or {})})
        given = {"model": self.model[0], "trajectory": self.path[0], "seed": SEED, **make}
        if picture:
            self.picture = self.add("LoadImage", image=PICTURE)
            given = {"image": self.picture[0], "image_index": INDEX, **given}
        self.made = self.add("FlashWorld_Generate", **given)
        self.splat, self.views, self.camera = self.made[0], self.made[1], self.made[2]

    def save(self, images: list[Any], prefix: str) -> str:
        """Save an IMAGE socket with the core's node; its id."""
        return self.add("SaveImage", images=images, filename_prefix=prefix).id

    def save_mask(self, mask: list[Any], prefix: str) -> str:
        """Save a MASK socket as gray pictures; the saving node's id."""
        return self.save(self.add("MaskToImage", mask=mask)[0], prefix)

    def render(self, **inputs: Any) -> Node:
        """A Render Scene Views node on this scene, or on ``splat`` if that is among the inputs."""
        return self.add("FlashWorld_RenderViews", **{"splat": self.splat, **inputs})


def pictures(run: Run, node: str, base: Path) -> np.ndarray:
    """The pictures a SaveImage node wrote, [V, H, W, 3] in [0, 1]."""
    files = output_files(run, node, base)
    assert files, f"node {node} saved nothing; {run.ending} {run.error.get('exception_message')}"
    return np.stack([as_array(file.read_bytes()) for file in files])


def as_array(content: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """A picture file as [H, W, 3] in [0, 1], averaged down to ``size`` (width, height) if given."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture = picture if size is None else picture.resize(size, Image.Resampling.BOX)
    return np.asarray(picture, np.float64) / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """In decibels, of values in [0, 1]."""
    return float(-10 * np.log10(max(np.mean((a - b) ** 2), 1e-10)))


def likeness(a: np.ndarray, b: np.ndarray, cells: int = 12) -> float:
    """Correlation of two pictures [H, W, 3] seen from afar: gray, averaged over a grid; -1 to 1."""

    def far(picture: np.ndarray) -> np.ndarray:
        rows = np.array_split(picture.mean(-1), cells, axis=0)
        return np.array([[cell.mean() for cell in np.array_split(row, cells, axis=1)] for row in rows])

    return float(np.corrcoef(far(a).ravel(), far(b).ravel())[0, 1])


def stands_like(picture: np.ndarray, other: np.ndarray) -> bool:
    """Whether ``picture`` is as upright as ``other``: more like it than turned or mirrored."""
    turned = (picture[::-1], picture[:, ::-1], picture[::-1, ::-1])
    return likeness(picture, other) > 0.9 and likeness(picture, other) > 0.05 + max(likeness(t, other) for t in turned)
