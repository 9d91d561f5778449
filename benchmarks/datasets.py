"""Frames per CPU second of the data readers against plain Pillow or PyAV on the same files, in one interleaved run.

    python benchmarks/datasets.py                  24 views of 704x480 from one clip of each kind, prints the table
    python benchmarks/datasets.py --markdown benchmarks/datasets.md

"Plain" decodes the same files in the same order and scales each to the same size, and does nothing else: no color
management, no checks, no cameras, no cropping. Processor time counts, since the machine has other work; training reads
in as many processes as it has.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashworld_core.cameras import Cameras  # noqa: E402
from flashworld_core.datasets.clips import Clip  # noqa: E402
from flashworld_core.datasets.pixels import load_views  # noqa: E402
from flashworld_core.datasets.toyworld import ToyWorld  # noqa: E402
from flashworld_core.media.export import save_video  # noqa: E402

VIEWS, WIDTH, HEIGHT = 24, 704, 480
CLIPS = {  # what, its images' size, ending, distortion
    "DL3DV images_4, PNG": ((960, 540), "png", ()),
    "the same, distorted lens": ((960, 540), "png", (("OPENCV", {"k1": 0.02, "k2": -0.01}),)),
    "RealEstate10K frames, JPEG": ((1280, 720), "jpg", ()),
    "RealEstate10K clip, H.264": ((1280, 720), "mp4", ()),
    "MVImgNet, JPEG": ((1080, 1920), "jpg", ()),
}


def frames_of(size: tuple[int, int]) -> list:
    """Images with the detail of photographs: true views, scaled up, with grain."""
    from PIL import Image

    rng = np.random.default_rng(0)
    sample = ToyWorld(VIEWS, 240, 160).sample(3, novel_views=0)
    made = []
    for image in sample.images:
        array = (image.permute(1, 2, 0) * 255).byte().numpy()
        large = np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        made.append(Image.fromarray((large + rng.integers(-6, 7, large.shape)).clip(0, 255).astype(np.uint8)))
    return made


def write_clip(root: Path, number: int, size, ending: str, distortion) -> Clip:
    folder = root / str(number)
    folder.mkdir()
    images = frames_of(size)
    names = [f"{number}/{i:05d}.{ending}" for i in range(VIEWS)]
    container = ""
    if ending == "mp4":
        container = f"{number}/clip.mp4"
        save_video(root / container, torch.from_numpy(np.stack(images)).float() / 255, 25)
    else:
        for name, image in zip(names, images, strict=True):
            image.save(root / name, quality=92)
    poses = ToyWorld(VIEWS, 240, 160).sample(3, novel_views=0).cameras.camera_to_world.double()
    lens = torch.tensor([0.8 * max(size), 0.8 * max(size), size[0] / 2, size[1] / 2]).double()
    return Clip(
        f"clip{number}", "multiview", frames=tuple(range(VIEWS)) if container else tuple(names),
        store="video" if container else "files", container=container, size=size, poses=poses,
        lenses=lens.repeat(VIEWS, 1), distortion=distortion,
    )  # fmt: skip


def plain(root: Path, clip: Clip, width: int, height: int) -> list[np.ndarray]:
    """Decode and scale, nothing else."""
    import av
    from PIL import Image

    if clip.store == "video":
        with av.open(str(root / clip.container)) as container:
            pictures = [frame.to_image() for frame in container.decode(video=0)]
    else:
        pictures = [Image.open(root / name).convert("RGB") for name in clip.frames]
    return [np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in pictures]


def measure(rounds: int) -> list[tuple[str, float, float]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number, (name, (size, ending, distortion)) in enumerate(CLIPS.items()):
            clip = write_clip(root, number, size, ending, distortion)
            width, height = (HEIGHT, WIDTH) if size[0] < size[1] else (WIDTH, HEIGHT)
            times: dict[str, list[float]] = {"ours": [], "plain": []}
            for _ in range(rounds + 1):
                start = time.process_time()
                images, cameras = load_views(root, clip, range(VIEWS), width, height)
                middle = time.process_time()
                plain(root, clip, width, height)
                times["ours"].append(middle - start)
                times["plain"].append(time.process_time() - middle)
            assert images.shape == (VIEWS, height, width, 3) and isinstance(cameras, Cameras)
            rows.append((name, *(VIEWS / statistics.median(times[key][1:]) for key in ("ours", "plain"))))
    return rows


def main() -> None:
    import os

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    rows = measure(options.rounds)
    lines = [
        "# Data readers",
        "",
        f"{VIEWS} views of {WIDTH}x{HEIGHT} (or upright) from one clip; processor time, median of {options.rounds}",
        'interleaved rounds in one process, page cache warm. "Plain" decodes and scales the same files with Pillow or',
        "PyAV, without color management, checks, cameras and cropping.",
        f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}; load average at the",
        f"start {load:.1f}. `python benchmarks/datasets.py --rounds {options.rounds}`",
        "",
        "| clip | frames/CPU s | plain, frames/CPU s | x plain's time |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {ours:.1f} | {bare:.1f} | {bare / ours:.2f} |" for name, ours, bare in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
