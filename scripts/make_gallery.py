"""Make docs/gallery: drawings and the scenes the embedded model makes of them, as loops: minutes on a CPU.

``python scripts/make_gallery.py [FOLDER]``
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
FOLDER = ROOT / "docs" / "gallery"
WIDTH, FRAMES = 288, 32  # of a loop, there and back


def house(width: int, height: int):
    """A house, a tree and a sun on a meadow, as flat shapes."""
    from PIL import Image, ImageDraw

    scale = 2
    picture = Image.new("RGB", (scale * width, scale * height), (150, 190, 230))
    draw = ImageDraw.Draw(picture)
    w, h = picture.size
    unit, ground = min(w, h), int(0.62 * h)
    draw.rectangle((0, ground, w, h), fill=(120, 165, 95))
    draw.ellipse((0.72 * w, 0.08 * h, 0.72 * w + 0.16 * unit, 0.08 * h + 0.16 * unit), fill=(245, 215, 90))
    left, top = 0.2 * w, ground - 0.22 * unit
    draw.rectangle((left, top, left + 0.36 * unit, ground + 0.1 * unit), fill=(205, 120, 90))
    draw.polygon(
        [(left - 0.04 * unit, top), (left + 0.18 * unit, top - 0.2 * unit), (left + 0.4 * unit, top)],
        fill=(125, 60, 60),
    )
    draw.rectangle(
        (left + 0.14 * unit, ground - 0.06 * unit, left + 0.23 * unit, ground + 0.1 * unit), fill=(90, 60, 50)
    )
    x = 0.74 * w
    draw.rectangle((x - 0.02 * unit, ground - 0.1 * unit, x + 0.02 * unit, ground + 0.08 * unit), fill=(110, 75, 50))
    draw.ellipse((x - 0.12 * unit, ground - 0.32 * unit, x + 0.12 * unit, ground - 0.06 * unit), fill=(60, 120, 70))
    return picture.resize((width, height))


def pictures() -> dict:
    """Name -> (Pillow image, prompt, size of the views)."""
    from PIL import Image

    demo = ROOT / "flashworld_core" / "assets" / "demo"
    example = "a pink cone, a large teal shaded cylinder and a red box in a room with a green mottled floor"
    return {
        "shapes": (Image.open(demo / "picture.png").convert("RGB"), example, (192, 128)),
        "drawing": (house(768, 512), "a house and a tree on a meadow", (192, 128)),
        "portrait": (house(512, 768), "a house and a tree on a meadow", (128, 192)),
    }


def main(folder: Path = FOLDER) -> None:
    """Make every picture's scene and write both."""
    from PIL import Image

    from flashworld_core import Request, ViewImage, load_model, make_trajectory, render
    from flashworld_core.media.export import to_bytes
    from flashworld_core.trajectories.keyframes import resample

    folder.mkdir(parents=True, exist_ok=True)
    model = load_model("tiny")
    for name, (picture, prompt, (width, height)) in pictures().items():
        path = make_trajectory("arc:30", views=8, width=width, height=height)
        made = model.generate(Request(path, images=(ViewImage(picture, 4),), prompt=prompt, seed=1))
        size = (WIDTH, round(WIDTH * height / width))
        size = size if width > height else (round(WIDTH * width / height), WIDTH)
        rgb = render(made.gaussians, resample(made.cameras, FRAMES).resized(*size)).rgb
        frames = [Image.fromarray(to_bytes(frame)) for frame in (*rgb, *rgb.flip(0)[1:-1])]
        frames[0].save(
            folder / f"{name}.webp", save_all=True, append_images=frames[1:], duration=60, loop=0, quality=70
        )
        picture.resize(size).save(folder / f"{name}_input.webp", quality=85)
        print(folder / f"{name}.webp")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
