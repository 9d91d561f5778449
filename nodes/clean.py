"""Clean Scene: what nobody misses, and what lies outside of the part wanted, leaves a SPLAT."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..flashworld_core.errors import FlashWorldError, check_stop
from . import sockets
from .comfyui import api
from .comfyui.api import io
from .comfyui.run import NodeRun

if TYPE_CHECKING:
    from torch import Tensor

    from ..flashworld_core.gaussians import Gaussians

    Crop = Callable[[Gaussians, Callable[[int, int], None]], Gaussians]  # (scene, progress) -> the part to keep

TITLE = "Clean Scene"
CROPS = ("none", "box", "path")
FAR_EXTENTS = 100.0  # of a scene; what lies beyond is no background any more
_FAR = 1_000_000.0  # world units, of the box's numbers


class CleanScene(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        def number(id: str, default: float, low: float, tooltip: str):
            return api.input(io.Float, id, default=default, min=low, max=_FAR, step=0.05, round=0.0001, tooltip=tooltip)

        return api.schema(
            node_id="FlashWorld_CleanScene",
            display_name=TITLE,
            category="FlashWorld",
            description="Drops what disturbs or is not needed: broken, see-through and oversized Gaussians, all "
            "outside of a box or of what a camera path sees, and the least important of too many.",
            search_aliases=["prune splat", "crop splat", "clean splat", "floaters", "reduce gaussians", "nan"],
            inputs=[
                api.input(
                    api.Splat,
                    "splat",
                    tooltip="The scene to clean, from any node that makes a SPLAT. Gaussians with numbers that are not "
                    "finite (NaN) always go.",
                ),
                api.input(
                    io.Float,
                    "min_opacity",
                    default=0.005,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=0.00001,
                    tooltip="Gaussians fainter than this go. 0.005 drops what can hardly be seen and makes files "
                    "smaller; from about 0.1 haze and soft edges go too. 0 keeps all.",
                ),
                number(
                    "max_size",
                    0.0,
                    0.0,
                    "Gaussians larger than this go: their longest standard deviation, in multiples of the scene's "
                    "extent (from its middle to where nine tenths of it end). 0.5 drops blobs that veil the view. 0: "
                    "no limit.",
                ),
                api.input(
                    io.Combo,
                    "crop",
                    options=list(CROPS),
                    default="none",
                    tooltip="What part to keep: none keeps all, box what lies in the box below, path what the cameras "
                    "of the trajectory see and what surrounds them.",
                ),
                number(
                    "center_x", 0.0, -_FAR, "Middle of the box, in scene units: larger is further right. Crop box only."
                ),
                number(
                    "center_y", 0.0, -_FAR, "Middle of the box, in scene units: larger is further down. Crop box only."
                ),
                number(
                    "center_z",
                    0.0,
                    -_FAR,
                    "Middle of the box, in scene units: larger is further ahead of the first camera. Crop box only.",
                ),
                number("size_x", 10.0, 0.0, "Width of the box in scene units: smaller keeps less. Crop box only."),
                number("size_y", 10.0, 0.0, "Height of the box in scene units: smaller keeps less. Crop box only."),
                number("size_z", 10.0, 0.0, "Depth of the box in scene units: smaller keeps less. Crop box only."),
                number(
                    "surroundings",
                    0.0,
                    0.0,
                    "With crop path: Gaussians at most this far from a camera stay too, also behind it, in scene "
                    "units. 0 keeps only what is in sight of a camera.",
                ),
                api.input(
                    io.Int,
                    "max_gaussians",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    tooltip="At most so many stay: those that look largest and densest from the trajectory, or from "
                    "where the scene was made. 500000 suits web viewers. 0 keeps all.",
                ),
                api.input(
                    io.Float,
                    "max_distance",
                    default=FAR_EXTENTS,
                    min=0.0,
                    max=_FAR,
                    step=1.0,
                    round=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Gaussians farther from the scene's middle than this go, in multiples of its extent: "
                    "strays that training leaves behind. Lower drops distant background too. 0 keeps all.",
                ),
                api.input(
                    api.Trajectory,
                    "trajectory",
                    optional=True,
                    tooltip="The camera path of crop path. max_gaussians keeps what shows most from it.",
                ),
            ],
            outputs=[api.output(api.Splat, "splat", tooltip="The cleaned scene.")],
        )

    @classmethod
    def execute(
        cls, splat, min_opacity=0.005, max_size=0.0, crop="none", center_x=0.0, center_y=0.0, center_z=0.0,
        size_x=10.0, size_y=10.0, size_z=10.0, surroundings=0.0, max_gaussians=0, max_distance=FAR_EXTENTS,
        trajectory=None,
    ):  # fmt: skip
        with NodeRun(TITLE) as run:
            sockets.checked_numbers(min_opacity=min_opacity, max_size=max_size, max_distance=max_distance)
            scene = sockets.gaussians_from_splat(splat, notify=run.say)
            if crop == "path":
                cropping = _path_crop(run, trajectory, surroundings)
            elif crop == "box":
                cropping = _box_crop((center_x, center_y, center_z), (size_x, size_y, size_z))
            elif crop == "none":
                cropping = None
            else:
                raise FlashWorldError(f"crop must be one of {', '.join(CROPS)}, got {crop!r}.")
            views = sockets.viewpoints(scene, trajectory)
            scene = cleaned(run, scene, min_opacity, max_size, cropping, max_gaussians, views, max_distance)
            return run.output(sockets.splat_from_gaussians(scene))


def cleaned(
    run: NodeRun,
    scene: Gaussians,
    min_opacity: float,
    max_size: float,
    cropping: Crop | None,
    max_gaussians: int,
    viewpoints: Tensor | None,
    max_distance: float = 0.0,
) -> Gaussians:
    """The scene after every step that is asked for, each told of on the node.

    Args:
        cropping: the crop, or None.
        max_distance: multiples of the scene's extent; 0 keeps all.
        viewpoints: [P, 3] where it is looked at from, for the choice of ``max_gaussians``; None if nobody knows.

    Raises:
        FlashWorldError: nothing would be left; names the step and what to change.
        Cancelled: the user stopped it.
    """
    from ..flashworld_core.ops.measure import extent
    from ..flashworld_core.ops.select import budget, drop_far, prune

    steps = [("broken (NaN)", "The scene is broken: look at the node that made it.", lambda scene, _: prune(scene))]
    if min_opacity > 0:
        steps.append(
            ("too faint", "Lower min_opacity.", lambda scene, _: prune(scene, min_opacity=min_opacity)),
        )
    if max_distance > 0:
        steps.append(
            ("too far away", "Raise max_distance, or set it to 0.", lambda scene, _: drop_far(scene, max_distance))
        )
    if max_size > 0:
        steps.append(
            (
                "too large",
                "Raise max_size, or set it to 0.",
                lambda scene, _: prune(scene, max_size=max_size * extent(scene)),
            )
        )
    if cropping is not None:
        steps.append(
            (
                "outside of the crop",
                "Move or enlarge the box, take another camera path, or set crop to none.",
                cropping,
            )
        )
    if max_gaussians > 0:
        steps.append(
            ("over the limit", "Raise max_gaussians.", lambda scene, _: budget(scene, max_gaussians, viewpoints))
        )

    before, removed = len(scene), []
    for i, (what, remedy, step) in enumerate(steps):
        check_stop(run.should_stop)
        progress = run.part(i / len(steps), (i + 1) / len(steps))
        kept = step(scene, progress)
        progress(1, 1)
        gone = len(scene) - len(kept)
        if not len(kept):
            raise FlashWorldError(f"nothing would be left: the last {gone:,} Gaussians are {what}. {remedy}")
        if gone:
            removed.append(f"{gone:,} {what}")
        scene = kept
    if not max_distance > 0 and (strays := len(scene) - len(drop_far(scene, FAR_EXTENTS))):
        run.say(
            f"{strays:,} Gaussians lie farther away than {FAR_EXTENTS:g} times the scene's extent; max_distance drops "
            "them."
        )
    details = f" Removed: {', '.join(removed)}." if removed else ""
    run.say(f"Kept {len(scene):,} of {before:,} Gaussians.{details}")
    return scene


def _box_crop(center, size) -> Crop:
    from ..flashworld_core.ops.select import crop

    if not all(side > 0 for side in size):
        raise FlashWorldError(f"the box needs a size above 0 in every direction, got {' x '.join(map(str, size))}.")
    low = [c - s / 2 for c, s in zip(center, size, strict=True)]
    high = [c + s / 2 for c, s in zip(center, size, strict=True)]
    return lambda scene, _: crop(scene, low, high)


def _path_crop(run: NodeRun, trajectory, surroundings: float) -> Crop:
    from ..flashworld_core.ops.select import near_path_mask

    if trajectory is None:
        raise FlashWorldError(
            "crop is path, but no camera path is connected: connect one to trajectory, or choose another crop."
        )
    cameras = sockets.checked_trajectory(trajectory)

    def crop(scene: Gaussians, progress) -> Gaussians:
        mask = near_path_mask(scene, cameras, surroundings, progress=progress, should_stop=run.should_stop)
        return scene[mask]

    return crop
