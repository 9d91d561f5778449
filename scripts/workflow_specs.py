"""What the workflows of ``workflows/`` consist of; ``save_workflows.py`` builds them in ComfyUI's own frontend.

All run with the embedded model on a CPU in seconds. ``LoadImage`` shows ``example.png``, which every ComfyUI has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

EXAMPLE = "example.png"
TINY = {"frames": 8, "width": 96, "height": 64}  # what the embedded model was trained on
LARGE = {"width": 384, "height": 256}  # for looking at: rendering does not care what size a scene was made at
GRAY = "#a0a8b0"  # behind the scene, where it is thin
INDEX = 4  # the view in the middle of the path, where arc has the picture

# Files the loader's list may hold, where their makers publish them.
MODELS = [
    {
        "name": "model.ckpt",
        "directory": "flashworld",
        "url": "https://huggingface.co/imlixinyang/FlashWorld/resolve/main/model.ckpt",
    }
]

BLUE, GREEN, YELLOW, PURPLE = "#3f789e", "#568f4f", "#b58b2a", "#7a5c9e"


@dataclass(frozen=True)
class Node:
    """One node: widget values by name, links as input -> (name of another node, output slot)."""

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, tuple[str, int]] = field(default_factory=dict)
    title: str = ""
    size: tuple[int, int] = (0, 0)  # at least, in graph pixels


@dataclass(frozen=True)
class Group:
    """A titled frame around columns of nodes, which are named from top to bottom."""

    title: str
    color: str
    columns: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Workflow:
    """A workflow file: ``about`` is the text of its note, in Markdown."""

    about: str
    nodes: dict[str, Node]
    groups: tuple[Group, ...]


OFFICIAL = (
    "\n\nThe embedded tiny model is for trying out: it knows simple shapes and draws 96x64. **For photographs** put "
    "the official `model.ckpt` into `models/flashworld` (research license), choose it in *Load FlashWorld Model*, and "
    "set the camera path to 24 frames of 704x480."
)


def note(text: str) -> Node:
    return Node("MarkdownNote", {"text": text}, title="Read me", size=(420, 260))


def picture() -> Node:
    return Node("LoadImage", {"image": EXAMPLE}, title="Your picture", size=(320, 340))


def model() -> Node:
    return Node("FlashWorld_LoadModel", size=(360, 150))


def path(preset: str, amount: float, **values: Any) -> Node:
    return Node("FlashWorld_CameraPath", {"source": "preset", "preset": preset, "amount": amount, **TINY, **values})


def scene(prompt: str, image: str | None = "picture", index: int = INDEX, seed: int = 1) -> Node:
    links = {"model": ("model", 0), "trajectory": ("path", 0)}
    values = {"prompt": prompt, "seed": seed, "control_after_generate": "fixed"}
    if image:
        links["image"] = (image, 0)
        values["image_index"] = index
    return Node("FlashWorld_Generate", values, links, size=(420, 620))  # with its preview


def render(splat: str = "scene", **values: Any) -> Node:
    links = {"splat": (splat, 0), "trajectory": ("path", 0)}
    return Node(
        "FlashWorld_RenderViews", {**LARGE, "background": GRAY, **values}, links, size=(340, 640)
    )  # with its preview


def show(source: str, slot: int, title: str, size: tuple[int, int] = (420, 340)) -> Node:
    return Node("PreviewImage", links={"images": (source, slot)}, title=title, size=size)


def show_mask(source: str, slot: int, title: str) -> Node:
    return Node("MaskPreview", links={"mask": (source, slot)}, title=title, size=(420, 340))


def video(source: str, slot: int, fps: float = 12.0) -> Node:
    return Node("CreateVideo", {"fps": fps}, {"images": (source, slot)}, size=(270, 0))


def save_video(source: str, prefix: str, title: str) -> Node:
    return Node("SaveVideo", {"filename_prefix": prefix}, {"video": (source, 0)}, title=title, size=(420, 400))


def export(splat: str, prefix: str) -> Node:
    links = {"splat": (splat, 0), "camera": ("scene", 2)}
    return Node("FlashWorld_ExportScene", {"filename_prefix": prefix}, links, size=(420, 420))


def preview(splat: str = "scene") -> Node:
    links = {"splat": (splat, 0), "trajectory": ("path", 0)}
    return Node("FlashWorld_PreviewScene", dict(LARGE), links, size=(620, 640))


def plain(color: int, width: int, height: int, title: str) -> Node:
    return Node("EmptyImage", {"width": width, "height": height, "color": color}, title=title, size=(220, 0))


def stitched(first: str, second: str, direction: str, title: str) -> Node:
    links = {"image1": (first, 0), "image2": (second, 0)}
    return Node("ImageStitch", {"direction": direction, "match_image_size": False}, links, title=title, size=(240, 0))


def pasted(onto: str, what: str, x: int, y: int, title: str) -> Node:
    links = {"destination": (onto, 0), "source": (what, 0)}
    return Node("ImageCompositeMasked", {"x": x, "y": y}, links, title=title, size=(240, 0))


def keyframes(*poses: tuple[tuple[float, float, float], tuple[float, float, float, float], float]) -> str:
    """A camera path document through (position, quaternion wxyz, vertical degrees)."""
    keys = [
        {"position": list(p), "quaternion": list(q), "vertical_fov_degrees": fov, "time": None} for p, q, fov in poses
    ]
    document = {"version": 1, "spline": "catmull_rom", "timing": "constant_speed", "loop": False, "keyframes": keys}
    return json.dumps(document)


# Along a bow to the right and up, looking back at the subject, the lens narrowing a little.
BOW = keyframes(
    ((-0.20, 0.02, 0.0), (0.9962, 0.0, 0.0872, 0.0), 60.0),
    ((0.0, 0.0, 0.06), (1.0, 0.0, 0.0, 0.0), 60.0),
    ((0.14, -0.05, 0.08), (0.9976, -0.0174, -0.0672, 0.0), 56.0),
    ((0.26, -0.06, 0.04), (0.9924, -0.0218, -0.1209, 0.0), 52.0),
)

WORDS = "colorful shapes on green ground"

WORKFLOWS = {
    "image_to_scene": Workflow(
        "# A picture becomes a scene\n\nChoose your picture, press Run, and look around in *Preview Scene*: drag to "
        "orbit, or press the fly button and use WASD. The camera path decides what the scene shows: parts no camera "
        "sees stay empty. `image_index` says which view of the path is your picture; the preset *arc* has it in the "
        "middle." + OFFICIAL,
        {
            "note": note(""),
            "picture": picture(),
            "model": model(),
            "path": path("arc", 24.0),
            "scene": scene(WORDS),
            "views": show("scene", 1, "The scene from every view of the path"),
            "preview": preview(),
            "export": export("scene", "FlashWorld/image_to_scene"),
        },
        (
            Group("Picture, model, camera path", BLUE, (("note", "picture", "model"), ("path",))),
            Group("Scene", GREEN, (("scene", "views"),)),
            Group("Look and save", PURPLE, (("preview", "export"),)),
        ),
    ),
    "image_to_object": Workflow(
        "# An image becomes an object\n\n*Image to Object* needs an image and a mask that is white on the "
        "object: from *Remove Background*, or the transparency of a cut-out PNG. **Your own image goes in "
        "place of the left group**; here a few core nodes paint a box and its mask, so that the workflow runs"
        " without any other model.\n\nThe embedded trellis-tiny knows colored solids only. For photographs "
        "put the folder of TRELLIS-image-large (MIT) into `models/flashworld` and choose it in *Load "
        "FlashWorld Model*.",
        {
            "top": plain(0xE85A4A, 64, 20, "Box, top"),
            "front": plain(0xA83226, 64, 44, "Box, front"),
            "back": plain(0x000000, 128, 128, "Background"),
            "box": stitched("top", "front", "down", "Box"),
            "painted": pasted("back", "box", 32, 32, "The image"),
            "outside": Node("SolidMask", {"value": 0.0, "width": 128, "height": 128}, title="Nothing", size=(220, 0)),
            "inside": Node("SolidMask", {"value": 1.0, "width": 64, "height": 64}, title="Object", size=(220, 0)),
            "mask": Node(
                "MaskComposite",
                {"x": 32, "y": 32, "operation": "add"},
                {"destination": ("outside", 0), "source": ("inside", 0)},
                title="The mask",
                size=(240, 0),
            ),
            "note": note(""),
            "model": Node("FlashWorld_LoadModel", {"model": "trellis-tiny (embedded)"}, size=(360, 150)),
            "object": Node(
                "FlashWorld_ImageToObject",
                {"seed": 1, "control_after_generate": "fixed"},
                {"model": ("model", 0), "image": ("painted", 0), "mask": ("mask", 0)},
                size=(420, 420),
            ),
            "views": show("object", 1, "The object from all around"),
            "preview": Node("FlashWorld_PreviewScene", dict(LARGE), {"splat": ("object", 0)}, size=(620, 640)),
        },
        (
            Group(
                "An object and its mask: put yours here",
                YELLOW,
                (("top", "front", "back", "outside", "inside"), ("box", "painted", "mask")),
            ),
            Group("Model", BLUE, (("note", "model"),)),
            Group("Object", GREEN, (("object", "views"),)),
            Group("Look", PURPLE, (("preview",),)),
        ),
    ),
    "text_to_scene": Workflow(
        "# A sentence becomes a scene\n\nWith nothing connected to `image`, the words decide everything. Another "
        "`seed` gives another scene.\n\nThe embedded tiny model hardly follows words: expect ground, sky and haze, and "
        "objects at best hinted at. The official weights do follow them." + OFFICIAL,
        {
            "note": note(""),
            "model": model(),
            "path": path("arc", 24.0),
            "scene": scene("a red box on a green ground under a blue sky", image=None, seed=2),
            "views": show("scene", 1, "The scene from every view of the path"),
            "preview": preview(),
            "export": export("scene", "FlashWorld/text_to_scene"),
        },
        (
            Group("Model, camera path", BLUE, (("note", "model"), ("path",))),
            Group("Scene", GREEN, (("scene", "views"),)),
            Group("Look and save", PURPLE, (("preview", "export"),)),
        ),
    ),
    "core_image_to_scene": Workflow(
        "# From any image generator to a scene\n\nAn IMAGE from any node goes straight into *Generate Scene*. **Your "
        "own generator goes in place of the left group**: for example Load Checkpoint, CLIP Text Encode, KSampler and "
        "VAE Decode, whose IMAGE you connect to `image`. Here a few core nodes paint a picture, so that the workflow "
        "runs without any other model.\n\nThe picture is cropped about its middle to the shape of the views, so any "
        "size will do." + OFFICIAL,
        {
            "sky": plain(0x96BEE1, 384, 144, "Sky"),
            "ground": plain(0x7EA05F, 384, 112, "Ground"),
            "front": plain(0xBE2D28, 96, 104, "Box, front"),
            "side": plain(0x821E1C, 28, 104, "Box, side"),
            "small": plain(0xE1AF3C, 72, 66, "Small box"),
            "land": stitched("sky", "ground", "down", "Sky over ground"),
            "box": stitched("front", "side", "right", "Box"),
            "with_box": pasted("land", "box", 74, 92, "With the box"),
            "painted": pasted("with_box", "small", 236, 136, "With both"),
            "note": note(""),
            "shown": show("painted", 0, "The picture that is generated from"),
            "model": model(),
            "path": path("orbit", 20.0),
            "scene": scene("a red box and a yellow box on green ground under a blue sky", "painted", 0),
            "views": show("scene", 1, "The scene from every view of the path"),
            "preview": preview(),
        },
        (
            Group(
                "Any image generator: put yours here",
                YELLOW,
                (("sky", "ground", "front", "side", "small"), ("land", "box", "with_box", "painted")),
            ),
            Group("Model, camera path", BLUE, (("note", "shown", "model"), ("path",))),
            Group("Scene", GREEN, (("scene", "views"),)),
            Group("Look", PURPLE, (("preview",),)),
        ),
    ),
    "custom_path_keyframes": Workflow(
        "# Your own camera path\n\nThe path is made of keyframes in the editor on *FlashWorld Camera Path*: drag them "
        "in the plan, add some at the current view, retime them in the strip below. The scene is generated along this "
        "path, and *Render Scene Views* films it with more frames on the same path.\n\n*Save Camera Path* writes it "
        "as FlashWorld request JSON, nerfstudio, COLMAP or RealEstate10K text; *Load Camera Path* reads them."
        + OFFICIAL,
        {
            "note": note(""),
            "picture": picture(),
            "model": model(),
            "path": Node("FlashWorld_CameraPath", {"source": "keyframes", **TINY, "keyframes": BOW}),
            "save": Node(
                "FlashWorld_SaveCameraPath",
                {"filename_prefix": "FlashWorld/custom_path"},
                {"trajectory": ("path", 0)},
                size=(340, 180),
            ),
            "scene": scene(WORDS, index=3),
            "views": show("scene", 1, "The scene from every view of the path"),
            "film": render(frames=36),
            "clip": video("film", 0),
            "saved": save_video("clip", "FlashWorld/custom_path", "Along the path"),
        },
        (
            Group("Picture, model", BLUE, (("note", "picture", "model"),)),
            Group("Camera path", YELLOW, (("path", "save"),)),
            Group("Scene", GREEN, (("scene", "views"),)),
            Group("Film along the path", PURPLE, (("film", "clip", "saved"),)),
        ),
    ),
    "render_depth_and_holes_video": Workflow(
        "# Pictures, depth and holes for other nodes\n\n*Render Scene Views* films any SPLAT along any path: pictures "
        "and depth become videos here. `holes` marks where the scene shows nothing: use it as the mask of an "
        "inpainting model. Depth and normals feed ControlNets.\n\nThe scene is made along a short arc and filmed along "
        "a longer one, so that there are holes to see." + OFFICIAL,
        {
            "note": note(""),
            "picture": picture(),
            "model": model(),
            "path": path("arc", 24.0),
            "far": Node(
                "FlashWorld_CameraPath",
                {"source": "preset", "preset": "arc", "amount": 50.0, "frames": 24, **LARGE, "easing": "ease_in_out"},
                title="Path of the film",
            ),
            "scene": scene(WORDS),
            "film": Node(
                "FlashWorld_RenderViews",
                {"background": GRAY},
                {"splat": ("scene", 0), "trajectory": ("far", 0)},
                size=(340, 640),  # with its preview
            ),
            "clip": video("film", 0),
            "saved": save_video("clip", "FlashWorld/views", "Pictures"),
            "depth_clip": video("film", 2),
            "depth_saved": save_video("depth_clip", "FlashWorld/depth", "Depth"),
            "holes": show_mask("film", 4, "Holes, for inpainting"),
            "normals": show("film", 3, "Normals"),
        },
        (
            Group("Picture, model, camera path", BLUE, (("note", "picture", "model"), ("path",))),
            Group("Scene, path of the film", GREEN, (("scene", "film"), ("far",))),
            Group("Videos", PURPLE, (("clip", "saved"), ("depth_clip", "depth_saved"))),
            Group("For other nodes", YELLOW, (("holes", "normals"),)),
        ),
    ),
    "clean_and_export": Workflow(
        "# Clean a scene and write it\n\n*Clean Scene* drops Gaussians that are nearly transparent, too large, or far "
        "from the camera path, and keeps at most a number you choose: smaller files, fewer floating specks. *Export "
        "Scene* writes a PLY that any 3D Gaussian viewer opens, with a preview picture and the workflow beside it, in "
        "ComfyUI's `output/FlashWorld`." + OFFICIAL,
        {
            "note": note(""),
            "picture": picture(),
            "model": model(),
            "path": path("arc", 24.0),
            "scene": scene(WORDS),
            "clean": Node(
                "FlashWorld_CleanScene",
                {"min_opacity": 0.02, "max_gaussians": 5000},
                {"splat": ("scene", 0), "trajectory": ("path", 0)},
                size=(340, 460),
            ),
            "before": render(),
            "after": render("clean"),
            "before_shown": show("before", 0, "Before: all Gaussians"),
            "after_shown": show("after", 0, "After: 5 000 at most"),
            "export": export("clean", "FlashWorld/cleaned"),
        },
        (
            Group("Picture, model, camera path", BLUE, (("note", "picture", "model"), ("path",))),
            Group("Scene", GREEN, (("scene", "clean"),)),
            Group("Compare", YELLOW, (("before", "after"), ("before_shown", "after_shown"))),
            Group("Write", PURPLE, (("export",),)),
        ),
    ),
    "preview_and_fly": Workflow(
        "# Look around and choose a view\n\nIn *Preview Scene* drag to orbit, press the fly button for WASD and mouse "
        "look, play the path, switch between color, depth and points. **Use this view** sends the pose on as a "
        "camera: *Render Scene Views* draws it at full quality. **Snapshot** sends a transparent picture of it.\n\n"
        "While a scene is being generated the viewer shows every step." + OFFICIAL,
        {
            "note": note(""),
            "picture": picture(),
            "model": model(),
            "path": path("arc", 24.0),
            "scene": scene(WORDS),
            "preview": preview(),
            "still": Node(
                "FlashWorld_RenderViews",
                {"width": 768, "height": 512, "background": GRAY},
                {"splat": ("scene", 0), "camera": ("preview", 0)},
                size=(340, 640),  # with its preview
            ),
            "shown": show("still", 0, "This view, rendered"),
            "snapshot": show("preview", 1, "Snapshot, transparent"),
        },
        (
            Group("Picture, model, camera path", BLUE, (("note", "picture", "model"), ("path",))),
            Group("Scene", GREEN, (("scene",),)),
            Group("Look around", PURPLE, (("preview",),)),
            Group("The chosen view", YELLOW, (("still", "shown"), ("snapshot",))),
        ),
    ),
    "open_clean_convert": Workflow(
        "# Open a scene, clean it, write it in another format\n\n*Load Scene* opens a PLY of any kind, SPZ, SOG, "
        ".splat, .ksplat or glTF from ComfyUI's input or output folder; *choose file* brings one from your "
        "computer. *Clean Scene* drops faint, oversized and surplus Gaussians. *Export Scene* writes an SPZ for "
        "delivery, and a web page that shows the scene in any browser, to `output/FlashWorld`.\n\nNo scene at "
        "hand? Run *image_to_scene* first: what it saves is in the list after pressing R.",
        {
            "note": note(""),
            "scene": Node("FlashWorld_LoadScene", {"file": "scene.ply"}, size=(420, 220)),
            "clean": Node(
                "FlashWorld_CleanScene",
                {"min_opacity": 0.02, "max_gaussians": 1_000_000},
                {"splat": ("scene", 0)},
                size=(420, 420),
            ),
            "preview": Node("FlashWorld_PreviewScene", {"width": 384, "height": 256}, {"splat": ("clean", 0)}),
            "export": Node(
                "FlashWorld_ExportScene",
                {"filename_prefix": "FlashWorld/delivered", "format": "spz"},
                {"splat": ("clean", 0), "camera": ("scene", 1)},
                title="For delivery",
                size=(420, 720),  # with the picture of the scene
            ),
            "page": Node(
                "FlashWorld_ExportScene",
                {"filename_prefix": "FlashWorld/page", "format": "html"},
                {"splat": ("clean", 0), "camera": ("scene", 1)},
                title="For any browser",
                size=(420, 720),  # with the picture of the scene
            ),
        },
        (
            Group("Scene", BLUE, (("note", "scene"),)),
            Group("Clean", GREEN, (("clean",),)),
            Group("Look", YELLOW, (("preview",),)),
            Group("Write", PURPLE, (("export", "page"),)),
        ),
    ),
}
