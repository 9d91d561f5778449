"""What ``generate`` does with a generator of objects: scene, mesh, and views all around."""

from __future__ import annotations

import time
from pathlib import Path

from .arguments import say
from .jobs import object_jobs
from .progress import ProgressBar

_SHOWN, _FIELD_SIZE = 4, 96  # views of the contact sheet; pixels of those of the field, which take long
_VIDEO_VIEWS, _FRAMES_PER_SECOND = 96, 24


def add_object_arguments(group) -> None:
    """The arguments that only generators of objects use."""
    group.add_argument(
        "--mask",
        metavar="FILE",
        help="white on the object; default the picture's transparency, else what differs from a plain background",
    )
    group.add_argument(
        "--guidance", type=float, default=None, help="how closely to follow the picture, for models that have it"
    )
    group.add_argument(
        "--mesh",
        default=None,
        metavar="glb,obj,ply|none",
        help="mesh files to write, for models that make fields (glb; needs scikit-image and trimesh)",
    )
    group.add_argument(
        "--mesh-resolution",
        type=int,
        default=None,
        metavar="N",
        help="samples along each edge of the mesh's cube (192)",
    )
    group.add_argument("--mesh-threshold", type=float, default=None, help="density at the mesh's surface (1)")


def generate_objects(options, info, load, steps) -> None:
    """Carry out ``generate`` for a model of objects; writes into ``options.out``, or folders in it.

    Args:
        info: of the model.
        load: ``load()`` gives it.
        steps: as in `Request.steps`.
    """
    from ..errors import FlashWorldError
    from ..rendering.render import warm_up

    if options.request is not None or not options.image:
        raise FlashWorldError(f"{info.model_id} makes objects from pictures: give --image.")
    formats = mesh_formats(options, info)
    for name in ("views", "size", "image_index"):
        if getattr(options, name) is not None:
            say(f"{info.model_id} makes objects: --{name.replace('_', '-')} is not used.")
    given = {} if options.guidance is None else {"guidance": options.guidance}
    jobs = object_jobs(options, steps, given, None if options.mask is None else read_mask(options.mask))
    model = load()
    for job in jobs:
        try:
            remarks = model.check(job.request)
        except FlashWorldError as error:
            raise FlashWorldError(f"{job.name}: {error}" if job.name else str(error)) from error
        for remark in remarks:
            say(f"{job.name}: {remark}" if job.name else remark)
    warm_up()
    for job in jobs:
        generate_object(options, model, job.request, formats, options.out / job.name)
    if info.license:
        print(f"License: {info.license}")


def generate_object(options, model, request, formats: tuple[str, ...], out: Path) -> None:
    """Make one object and write it into ``out``."""
    from ..generators.base import RunOptions
    from ..progress import Progress

    info = model.info
    started = time.monotonic()
    with ProgressBar("generate") as bar:
        run = RunOptions(views_per_chunk=options.views_per_chunk, progress=Progress(bar))
        made = model.generate(request, run)
    seconds = time.monotonic() - started
    mesh = object_mesh(options, made) if formats else None
    report = {
        "seconds": round(seconds, 2),
        "gaussians": len(made.gaussians),
        **({} if mesh is None else {"mesh_vertices": len(mesh.vertices), "mesh_triangles": len(mesh.faces)}),
        "seed": request.seed,
        "model_id": info.model_id,
        "license": info.license,
    }
    write_object(options, out, made, mesh, formats, report)
    more = "" if mesh is None else f", {len(mesh.faces):,} triangles"
    print(f"{report['gaussians']:,} Gaussians{more} in {seconds:.1f} s: {out.resolve()}")


def mesh_formats(options, info) -> tuple[str, ...]:
    """The mesh formats to write, checked before the work begins."""
    from ..errors import FlashWorldError
    from ..formats.meshes import FORMATS, missing_for_meshes

    if not info.field:
        if options.mesh not in (None, "none"):
            raise FlashWorldError(f"{info.model_id} makes Gaussians only; leave out --mesh.")
        return ()
    names = tuple(name.strip().lower() for name in (options.mesh or "glb").split(","))
    if names == ("none",):
        return ()
    if unknown := [name for name in names if name not in FORMATS]:
        raise FlashWorldError(f"--mesh {unknown[0][:40]!r}: give some of {', '.join(FORMATS)}, or none.")
    if (missing := missing_for_meshes()) is None:
        return names
    if options.mesh is not None:
        raise FlashWorldError(missing)
    say(f"No mesh is written. {missing}")
    return ()


def read_mask(path: str):
    """[H, W] in [0, 1] of a picture, by its brightness."""
    import numpy as np
    import torch

    from ..media.images import open_image

    return torch.from_numpy(np.asarray(open_image(path).convert("L")).copy()).float() / 255


def object_mesh(options, made):
    """The `Mesh` of a result."""
    from ..ops.field_to_mesh import RESOLUTION, THRESHOLD, field_to_mesh
    from ..progress import Progress

    with ProgressBar("mesh    ") as bar:
        return field_to_mesh(
            made.field,
            options.mesh_resolution or RESOLUTION,
            THRESHOLD if options.mesh_threshold is None else options.mesh_threshold,
            Progress(bar),
        )


def write_object(options, out: Path, made, mesh, formats: tuple[str, ...], report: dict) -> None:
    """Write scene.ply, the mesh files, report.json, contact_sheet.png and orbit.mp4."""
    from ..formats.meshes import write_mesh
    from ..formats.scenes import write_scene
    from ..media.export import contact_sheet, save_json, save_png, save_video
    from ..rendering.field import render_field
    from ..rendering.render import render

    out.mkdir(parents=True, exist_ok=True)
    write_scene(out / "scene.ply", made.gaussians)
    for name in formats:
        write_mesh(out / f"mesh.{name}", mesh)
    save_json(out / "report.json", report)
    cameras = made.cameras
    shown = cameras[[round(i * len(cameras) / _SHOWN) for i in range(min(_SHOWN, len(cameras)))]]
    rows = [] if made.preview is None else [("what the model was given", [made.preview])]
    if made.field is not None:
        rows.append(("the field", list(render_field(made.field, shown.resized(_FIELD_SIZE, _FIELD_SIZE)).rgb)))
    rows.append(("as Gaussians", list(render(made.gaussians, shown, background="white").rgb)))
    title = f"{len(made.gaussians):,} Gaussians, {report['seconds']} s, {report['model_id']}"
    save_png(out / "contact_sheet.png", contact_sheet(rows, title=title))
    if options.no_video or len(cameras) < 2:
        return
    frames = around(cameras, _VIDEO_VIEWS)
    frames = frames if options.video_size is None else frames.fitted(*options.video_size)
    with ProgressBar("video   ") as bar:
        video = render(made.gaussians, frames, background="white", progress=bar).rgb
    save_video(out / "orbit.mp4", video, _FRAMES_PER_SECOND)


def around(cameras, views: int):
    """A closed turn through cameras that go around, with other numbers of views."""
    from ..trajectories.keyframes import resample

    closed = cameras[[*range(len(cameras)), 0]]
    return resample(closed, views + 1)[:views]
