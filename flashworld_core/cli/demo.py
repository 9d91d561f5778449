"""``demo``: the example that ships with the package, generated and compared with the truth."""

from __future__ import annotations

import json
from pathlib import Path

from .generate import add_model_arguments, check, load
from .jobs import Job
from .progress import announced
from .results import generate_to

EXAMPLE = Path(__file__).resolve().parent.parent / "assets" / "demo"


def add_command(commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="make a scene from the example picture",
        description="Make a scene from the example picture, a procedural scene the embedded model has never seen, and "
        "compare it with that scene's real look. Writes scene.ply, orbit.mp4, contact_sheet.png and report.json.",
    )
    parser.add_argument("--out", type=Path, default=Path("output/demo"), help="folder to write to (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    add_model_arguments(parser)
    parser.set_defaults(run=run)


def run(options) -> None:
    example = json.loads((EXAMPLE / "example.json").read_text(encoding="utf-8"))
    with announced(f"Loading {options.model}..."):
        from ..formats.cameras import read_cameras
        from ..formats.files import check_folder
        from ..generators import open_model
        from ..generators.base import Request, ViewImage

        check_folder(options.out)
        opened = open_model(options.model)
        cameras = read_cameras(EXAMPLE / "cameras.json")
        request = Request(
            cameras.resized(opened.info.width, opened.info.height),
            images=(ViewImage(EXAMPLE / "picture.png", example["image_index"]),),
            prompt=example["prompt"],
            seed=options.seed,
        )
        check(opened, [Job("", request)])
        model = load(options, opened)
    report, _ = generate_to(
        options.out, model, request, video_name="orbit.mp4", truth=lambda scene: judge(scene, request, example)
    )
    print(
        f"{report['gaussians']:,} Gaussians in {report['seconds']:.1f} s. Against the real scene: input view "
        f"{report['input_view_psnr_db']:.1f} dB, views it has never seen {report['novel_view_psnr_db']:.1f} dB."
    )
    for name in ("scene.ply", "orbit.mp4", "contact_sheet.png", "report.json"):
        print(f"  {options.out.resolve() / name}")


def judge(scene, request, example: dict):
    """PSNR of input and novel views against the example's procedural scene, and rows for the contact sheet."""
    from ..datasets.toyworld.paths import novel_cameras
    from ..datasets.toyworld.raycast import render_scene
    from ..datasets.toyworld.scene import sample_scene
    from ..evaluation.metrics import psnr_db
    from ..rendering.render import render

    toy = sample_scene(example["seed"], example["split"])
    unseen = novel_cameras(toy, request.cameras, example["novel_views"])
    truth = render_scene(toy, unseen)[0].permute(0, 2, 3, 1)
    renders = render(scene, unseen).rgb
    given = request.cameras[example["image_index"]]
    input_truth = render_scene(toy, given)[0].permute(0, 2, 3, 1)
    figures = {
        "input_view_psnr_db": round(psnr_db(render(scene, given).rgb, input_truth).item(), 2),
        "novel_view_psnr_db": round(psnr_db(renders, truth).mean().item(), 2),
    }
    return figures, [
        ("new viewpoints between the views: the scene", list(renders[:6])),
        ("the same viewpoints: the truth", list(truth[:6])),
    ]
