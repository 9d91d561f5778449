"""Makes the pictures people see before they run anything, all from real runs in a real ComfyUI.

    python scripts/make_pictures.py [thumbnails] [nodes] [screen] [--host PATH]

thumbnails: ``workflows/*.jpg``; nodes: ``web/docs/*.jpg``; screen: ``docs/comfyui.jpg``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "tests" / "support")]

from host_client import HostClient, Run
from host_frontend import APP, Frontend, frontend
from host_graphs import Graph
from host_scenes import DEMO, PATH, as_array
from host_server import PACK, HostServer, find_host
from host_workflows import NAMES, files_of, frames_of, node_id, pictures_of, put_example, read, run_saved
from PIL import Image

WHAT = ("thumbnails", "nodes", "screen")
VIEWS = "The scene from every view of the path"
THUMBNAIL = (480, 320)
HELP = PACK / "web" / "docs"
QUALITY = 88
GAP = 2  # pixels between pictures of a grid
TITLE_BAR = 30  # graph pixels above a node


class Maker:
    """Runs workflows once each and hands out what they made."""

    def __init__(self, server: HostServer):
        self.base, self.client = server.base, HostClient(server.url)
        self.info, self.runs = self.client.object_info(), {}
        put_example(self.base)

    def run(self, name: str) -> Run:
        if name not in self.runs:
            print("running", name, flush=True)
            self.runs[name] = run_saved(self.client, name, self.info, timeout=900.0)
        return self.runs[name]

    def shown(self, name: str, title: str, kind: str = "PreviewImage") -> np.ndarray:
        return pictures_of(self.run(name), name, self.base, kind, title)

    def film(self, name: str, title: str) -> np.ndarray:
        return frames_of(files_of(self.run(name), name, self.base, "SaveVideo", title)[0])


def grid(rows: list[list[np.ndarray]], size: tuple[int, int]) -> Image.Image:
    """Pictures [H, W, 3] side by side and below each other, the whole of that size."""
    across, down = len(rows[0]), len(rows)
    width, height = (size[0] - GAP * (across - 1)) // across, (size[1] - GAP * (down - 1)) // down
    whole = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            small = Image.fromarray((picture * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
            whole.paste(small, (x * (width + GAP), y * (height + GAP)))
    return whole


def thumbnail(make: Maker, name: str) -> Image.Image:
    """What the workflow of that name makes, in a small picture."""
    picture = as_array((DEMO / "picture.png").read_bytes())
    if name in ("image_to_scene", "core_image_to_scene"):
        given = picture if name == "image_to_scene" else make.shown(name, "The picture that is generated from")[0]
        nine = [given, *make.shown(name, VIEWS)]
    elif name == "text_to_scene":
        nine = [*make.shown(name, VIEWS)[[0, 2, 5, 7]]]
    elif name == "custom_path_keyframes":
        nine = [*make.film(name, "Along the path")[[0, 4, 8, 13, 17, 22, 26, 30, 35]]]
    elif name == "render_depth_and_holes_video":
        at = [3, 12, 20]
        nine = [*make.film(name, "Pictures")[at], *make.film(name, "Depth")[at]]
        nine += [*make.shown(name, "Holes, for inpainting", "MaskPreview")[at]]
    elif name == "clean_and_export":
        both = (make.shown(name, title)[[2, 6]] for title in ("Before: all Gaussians", "After: 5 000 at most"))
        nine = [view for views in both for view in views]
    else:
        nine = [make.shown(name, "This view, rendered")[0]]
    across = round(len(nine) ** 0.5)
    return grid([nine[i : i + across] for i in range(0, len(nine), across)], THUMBNAIL)


class Screen:
    """The frontend with a finished workflow in it, photographed in parts."""

    def __init__(self, page: Frontend, make: Maker):
        self.page, self.make, self.open = page.page, make, None
        self.frontend = page
        self.page.evaluate(f"{APP}.extensionManager.setting.set('Comfy.Minimap.Visible', false)")

    def show(self, name: str, workflow: dict[str, Any] | None = None) -> None:
        """Open a workflow and run it to its end."""
        if self.open == name:
            return
        self.make.run(name)
        self.frontend.load(workflow or read(name))
        self.page.wait_for_timeout(2000)
        events = "window.comfyAPI.api.api.addEventListener('execution_success', () => { window.finished = true })"
        self.page.evaluate(f"() => {{ window.finished = false; {events} }}")
        self.frontend.queue()
        self.page.wait_for_function("window.finished", timeout=600_000)
        self.page.wait_for_timeout(15_000)  # viewers draw, pictures arrive
        self.open = name

    def photograph(self, box: tuple[float, float, float, float], width: int) -> Image.Image:
        """A rectangle of the graph (x, y, width, height), so many pixels wide at most."""
        x, y, w, h = box
        view = self.page.viewport_size
        room = {"x": 90, "y": 90, "width": view["width"] - 110, "height": view["height"] - 110}  # beside the bars
        scale = min(room["width"] / w, room["height"] / h, 1.25)
        move = f"""([x, y, s]) => {{
            const canvas = {APP}.canvas;
            canvas.ds.scale = s;
            canvas.ds.offset = [x, y];
            canvas.setDirty(true, true);
        }}"""
        self.page.evaluate(move, [room["x"] / scale - x, room["y"] / scale - y, scale])
        self.page.wait_for_timeout(2500)
        clip = {"x": room["x"], "y": room["y"], "width": w * scale, "height": h * scale}
        file = self.make.base / "shot.png"
        self.page.screenshot(path=file, clip=clip, timeout=240_000)
        picture = Image.open(file).convert("RGB")
        if picture.width > width:
            picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
        return picture

    def nodes(self, name: str, *kinds: str, title: str = "", width: int = 720) -> Image.Image:
        """The nodes of these types with all between them."""
        ids = [int(node_id(read(name), kind, title if kind == kinds[-1] else "")) for kind in kinds]
        return self.photograph(self.around(ids), width)

    def around(self, ids: list[int], margin: float = 14.0) -> tuple[float, float, float, float]:
        """The rectangle these nodes take up: x, y, width, height in graph pixels."""
        code = f"(ids) => ids.map((id) => {APP}.graph.getNodeById(id)).map((n) => [...n.pos, ...n.size])"
        boxes = np.array(self.page.evaluate(code, ids))
        low = boxes[:, :2].min(0) - [margin, margin + TITLE_BAR]
        high = (boxes[:, :2] + boxes[:, 2:]).max(0) + margin
        return (*low.tolist(), *(high - low).tolist())


def load_path_graph(make: Maker) -> dict[str, Any]:
    """Load Camera Path and what takes its path, for their pictures; the file is the demo's path."""
    make.client.upload(PATH, (DEMO / "cameras.json").read_bytes())
    graph = Graph(make.client.object_info())
    loaded = graph.add("FlashWorld_LoadCameraPath", file=PATH)
    graph.add("FlashWorld_SaveCameraPath", trajectory=loaded[0], format="nerfstudio")
    graph.add("FlashWorld_WanCamera", trajectory=loaded[0])
    far = {id: f"90{id}" for id in graph}  # ids without results, which the frontend would show on these nodes
    for id in ("2", "3"):
        graph[id]["inputs"]["trajectory"] = [far["1"], 0]
    return {far[id]: node for id, node in graph.items()}


def save_help(node: str, picture: Image.Image) -> None:
    picture.save(HELP / f"FlashWorld_{node}.jpg", quality=QUALITY, optimize=True)


def help_pictures(make: Maker, screen: Screen) -> None:
    """One picture for each help page."""
    film = "render_depth_and_holes_video"
    views, depth = make.film(film, "Pictures"), make.film(film, "Depth")
    normals, holes = make.shown(film, "Normals"), make.shown(film, "Holes, for inpainting", "MaskPreview")
    save_help("RenderViews", grid([[views[3], depth[3]], [normals[3], holes[3]]], (720, 480)))
    before, after = (make.shown("clean_and_export", t) for t in ("Before: all Gaussians", "After: 5 000 at most"))
    save_help("CleanScene", grid([[before[6], after[6]]], (720, 240)))
    save_help("ExportScene", exported(make))
    screen.page.set_viewport_size({"width": 1600, "height": 1500})  # tall nodes stay legible
    screen.show("image_to_scene")
    save_help("LoadModel", screen.nodes("image_to_scene", "FlashWorld_LoadModel", width=560))
    save_help("Generate", screen.nodes("image_to_scene", "FlashWorld_Generate", "PreviewImage", title=VIEWS, width=560))
    save_help("PreviewScene", screen.nodes("image_to_scene", "FlashWorld_PreviewScene"))
    screen.show("custom_path_keyframes")
    save_help("CameraPath", screen.nodes("custom_path_keyframes", "FlashWorld_CameraPath", width=560))
    path_file_pictures(make, screen)


def path_file_pictures(make: Maker, screen: Screen) -> None:
    """Those of Load and Save Camera Path and Wan Camera Embedding, which no workflow has side by side."""
    screen.frontend.load_api(load_path_graph(make))
    screen.page.wait_for_timeout(1500)
    spread = "graph.nodes.forEach((n, i) => { n.pos = [i * 380, 0]; n.setSize([320, n.size[1]]); })"
    screen.page.evaluate(f"() => {{ const graph = {APP}.graph; {spread}; }}")
    save_help("LoadCameraPath", screen.photograph(screen.around([901]), 480))
    save_help("SaveCameraPath", screen.photograph(screen.around([902]), 480))
    save_help("WanCamera", screen.photograph(screen.around([901, 903]), 720))


def exported(make: Maker) -> Image.Image:
    """The preview picture Export Scene wrote."""
    files = files_of(make.run("image_to_scene"), "image_to_scene", make.base, "FlashWorld_ExportScene")
    (picture,) = [file for file in files if file.suffix == ".png"]
    return Image.open(picture).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", default=WHAT, help=f"some of {', '.join(WHAT)}; all if none is named")
    parser.add_argument("--host", help="ComfyUI's folder")
    options = parser.parse_args()
    what = options.what
    with tempfile.TemporaryDirectory() as base, HostServer(Path(base), find_host(options.host)) as server:
        make = Maker(server)
        if "thumbnails" in what:
            for name in NAMES:
                thumbnail(make, name).save(PACK / "workflows" / f"{name}.jpg", quality=QUALITY, optimize=True)
        if "nodes" in what or "screen" in what:
            with frontend(server.url) as page:
                screen = Screen(page, make)
                if "screen" in what:
                    screen.show("image_to_scene")
                    page.page.screenshot(path=Path(base) / "screen.png", timeout=240_000)
                    whole = Image.open(Path(base) / "screen.png").convert("RGB")
                    whole.save(PACK / "docs" / "comfyui.jpg", quality=QUALITY, optimize=True)
                if "nodes" in what:
                    help_pictures(make, screen)


if __name__ == "__main__":
    main()
