"""What `generate` and `demo` write: the scene, its path, a report, a contact sheet and a video."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from .progress import ProgressBar


def make_all(options, model, jobs) -> None:
    """Make every job's scene below ``options.out``; one that fails is told and the others go on.

    Raises:
        FlashWorldError: some failed; the message says how many and why the first did.
    """
    from ..errors import FlashWorldError

    settings = {
        "views_per_chunk": options.views_per_chunk,
        "video_size": options.video_size,
        "video": not options.no_video,
    }
    if len(jobs) == 1:
        report, _ = generate_to(options.out, model, jobs[0].request, **settings)
        print(f"{report['gaussians']:,} Gaussians in {report['seconds']:.1f} s: {options.out.resolve()}")
        return
    rows, reports, failed = [], {}, []
    for number, job in enumerate(jobs, start=1):
        print(f"[{number}/{len(jobs)}] {job.name}", flush=True)
        try:
            reports[job.name], shown = generate_to(options.out / job.name, model, job.request, sheet=False, **settings)
        except FlashWorldError as error:
            failed.append(f"{job.name}: {error}")
            print(f"  failed: {error}")
            continue
        rows.append((job.name, shown))
        write_overview(options.out, rows, reports)  # after each: what is done is there if it is stopped
    if failed:
        raise FlashWorldError(f"{len(failed)} of {len(jobs)} scenes could not be made; the first: {failed[0]}")
    seconds = sum(report["seconds"] for report in reports.values())
    print(f"{len(jobs)} scenes in {seconds:.1f} s: {options.out.resolve()}")


def write_overview(out: Path, rows, reports: dict) -> None:
    """One contact sheet and one report over all scenes."""
    from ..media.export import contact_sheet, save_json, save_png

    save_png(out / "contact_sheet.png", contact_sheet(rows, title=f"{len(rows)} scenes"))
    save_json(out / "report.json", reports)


def generate_to(
    out: Path,
    model,
    request,
    *,
    views_per_chunk: int | None = None,
    video_size: tuple[int, int] | None = None,
    video: bool = True,
    video_name: str = "path.mp4",
    sheet: bool = True,
    truth=None,
) -> tuple[dict, list]:
    """Generate, then write scene, path, report, contact sheet and video into ``out``.

    Args:
        request: a `generators.base.Request`.
        sheet: write the contact sheet.
        truth: optional ``truth(scene) -> (figures for the report, rows for the contact sheet)``, where the scene's
            real look is known.

    Returns:
        The report, and the pictures that stand for the scene: the one given and some views.
    """
    from ..formats.cameras import FlashWorldRequest
    from ..formats.scenes import write_scene
    from ..gaussians import SCENE_SCALE, TIMESTEP_INDICES
    from ..generators.base import RunOptions
    from ..media.export import contact_sheet, save_json, save_png, save_video
    from ..media.images import open_image
    from ..progress import Progress
    from ..rendering.maps import colorize_depth
    from ..rendering.render import render, warm_up

    image = request.images[0] if request.images else None
    picture = None
    if image:  # opened once, and before anything is compiled for it
        picture = open_image(image.image)
        request = dataclasses.replace(request, images=(dataclasses.replace(image, image=picture),))
    warm_up()
    started = time.monotonic()
    with ProgressBar("generate") as bar:
        bar(0, 1)  # reading the prompt and loading what that takes come first
        made = model.generate(request, RunOptions(views_per_chunk=views_per_chunk, progress=Progress(bar)))
    seconds = time.monotonic() - started
    scene, cameras, info = made.gaussians, made.cameras, model.info

    report = {
        "seconds": round(seconds, 2),
        "gaussians": len(scene),
        "seed": request.seed,
        "model_id": info.model_id,
        "license": info.license,
        "prompt": request.prompt,
        "image_index": image.view if image else None,
        "views": len(cameras),
        "size": [cameras.width, cameras.height],
        **{key: scene.metadata[key] for key in (TIMESTEP_INDICES, SCENE_SCALE) if key in scene.metadata},
    }
    views = render(scene, cameras, modes=("rgb", "expected_depth"))
    rows = []
    if picture is not None:
        rows.append((f"input picture (view {image.view})", [picture, views.rgb[image.view]]))
    shown = sorted({round(i * (len(cameras) - 1) / 5) for i in range(6)})
    numbers = ", ".join(str(i) for i in shown)
    rows.append((f"the scene from views {numbers}", [views.rgb[i] for i in shown]))
    rows.append(("depth, near is light", [colorize_depth(views.expected_depth)[i] for i in shown]))
    if truth is not None:
        figures, more = truth(scene)
        report |= figures
        rows += more

    out.mkdir(parents=True, exist_ok=True)
    write_scene(out / "scene.ply", scene)
    FlashWorldRequest(
        cameras, len(cameras), cameras.height, cameras.width, None, request.prompt, image.view if image else 0
    ).write(out / "cameras.json")
    save_json(out / "report.json", report)
    if sheet:
        title = (
            f"{request.prompt or 'no prompt'}  -  {len(scene):,} Gaussians, {seconds:.1f} s, seed {request.seed}, "
            f"{info.model_id}"
        )
        save_png(out / "contact_sheet.png", contact_sheet(rows, title=title))
    if video and len(cameras) > 1:
        frames = path_frames(scene, cameras, video_size)
        with ProgressBar("write   ") as bar:
            save_video(out / video_name, frames, 24, progress=bar)
    return report, [*([] if picture is None else [picture]), *(views.rgb[i] for i in shown)]


def path_frames(scene, cameras, size: tuple[int, int] | None):
    """[F, H, W, 3]: the path as a smooth video, there and back, four seconds each way."""
    import torch

    from ..rendering.render import render
    from ..trajectories.keyframes import resample

    if size is None:
        factor = max(1, round(480 / cameras.width))
        size = (cameras.width * factor, cameras.height * factor)
    frames = resample(cameras, 96).resized(*size)
    with ProgressBar("video   ") as progress:
        rgb = render(scene, frames, progress=progress).rgb
    return torch.cat([rgb, rgb.flip(0)[1:-1]])
