"""A user's request, checked before any work is done and brought into the form the networks take."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ...cameras import Cameras
from ...errors import FlashWorldError, check_stop
from ...flow.schedule import Schedule, shifted_schedule
from ...gaussians import Gaussians
from ...rendering.detail import FOCAL, mean_focal
from .condition import Crop, prepare_image
from .config import FlashWorldConfig
from .views import Conditions
from .world import WorldFrame, normalize_path, path_hash

if TYPE_CHECKING:
    from .condition import ImageLike

logger = logging.getLogger(__name__)

SCHEDULE_ENTRIES = 1000


@dataclasses.dataclass(frozen=True)
class Request:
    """A checked request: what `FlashWorldModel.generate` hands to the sampler, and the way back.

    Attributes:
        conditions: the networks' input.
        cameras: the views that are generated, in the user's world, intrinsics for the generated size.
        frame: where the normalised frame lies in the user's world.
        schedule: noise levels of the steps.
        metadata: what the finished scene says about its origin.
    """

    conditions: Conditions
    cameras: Cameras
    frame: WorldFrame
    schedule: Schedule
    metadata: dict

    def finish(self, gaussians: Gaussians) -> Gaussians:
        """A scene of the normalised frame in the user's world, with its metadata."""
        return dataclasses.replace(self.frame.apply(gaussians), metadata=dict(self.metadata))


def prepare_request(
    config: FlashWorldConfig,
    cameras: Cameras,
    *,
    embed: Callable[[str], Tensor],
    image: ImageLike | None = None,
    prompt: str = "",
    image_index: int = 0,
    steps: int | Sequence[int] | None = None,
    width: int | None = None,
    height: int | None = None,
    views: int | None = None,
    described: bool = False,
    origin: dict | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Request:
    """Check a request and prepare it; arguments and errors as in `pipeline.FlashWorldModel.generate`.

    Args:
        embed: the text encoder, called once, after every check: prompt to [1, L, D].
        described: ``embed`` says something even of an empty prompt.
        origin: metadata entries to begin with (generator, model, seed).
    """
    if image is None and not prompt.strip() and not described:
        raise FlashWorldError("generate: give an image, a prompt, or both; there is nothing to make a scene from.")
    if len(cameras) == 0:
        raise FlashWorldError("generate: the camera path is empty; it needs at least one camera.")
    width, height = cameras.width if width is None else width, cameras.height if height is None else height
    count = len(cameras) if views is None else views
    check_views(config, width, height, count, image_index)
    if count != config.views:
        logger.info("The model was trained on %d views; this path has %d.", config.views, count)
    indices = _timestep_indices(config, steps)
    schedule = shifted_schedule(config.shift, SCHEDULE_ENTRIES).select(indices)

    pixels = None
    crop = Crop.centred(cameras.width, cameras.height, width, height)
    if image is not None:
        pixels, crop = prepare_image(image, width, height)
    cameras = crop.adjust_intrinsics(cameras)
    vectors, cameras, frame = normalize_path(cameras, views)
    check_stop(should_stop)
    conditions = Conditions(vectors, width, height, embed(prompt), pixels, image_index)
    metadata = {
        **(origin or {}),
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest()[:16],
        "trajectory_sha256": path_hash(cameras),
        "scene_scale": frame.scale,
        FOCAL: mean_focal(cameras),
        "timestep_indices": indices,
    }
    return Request(conditions, cameras, frame, schedule, metadata)


def check_views(config: FlashWorldConfig, width: int, height: int, views: int, image_index: int = 0) -> None:
    """Refuse views the model cannot make.

    Raises:
        FlashWorldError: a size the networks cannot divide, too many views, or no view of that index.
    """
    _check_size(config, width, height)
    if not 1 <= views <= config.max_positions:
        raise FlashWorldError(f"generate: the model takes 1 to {config.max_positions} views, got {views}.")
    if not 0 <= image_index < views:
        raise FlashWorldError(
            f"generate: image_index {image_index} names no view; the path has views 0 to {views - 1}."
        )


def _check_size(config: FlashWorldConfig, width: int, height: int) -> None:
    rows, columns = config.size_multiple
    if width < 1 or height < 1 or width % columns or height % rows:
        raise FlashWorldError(
            f"generate: the model cannot make {width}x{height}; the width must be a multiple of {columns} "
            f"(nearest: {_nearest_multiples(width, columns)}), the height of {rows} "
            f"(nearest: {_nearest_multiples(height, rows)})."
        )
    widest, highest = columns * config.max_positions, rows * config.max_positions
    if width > widest or height > highest:
        raise FlashWorldError(f"generate: the model takes images up to {widest}x{highest}, got {width}x{height}.")


def _nearest_multiples(value: int, factor: int) -> str:
    below = max(value, 0) // factor * factor
    return " or ".join(str(n) for n in (below, below + factor) if n > 0 and (n == below or below != value))


def _timestep_indices(config: FlashWorldConfig, steps: int | Sequence[int] | None) -> list[int]:
    if steps is None:
        return list(config.timestep_indices)
    if not isinstance(steps, int):
        return [int(i) for i in steps]
    if not 1 <= steps <= SCHEDULE_ENTRIES:
        raise FlashWorldError(f"generate: steps must be 1..{SCHEDULE_ENTRIES}, got {steps}.")
    return [i * SCHEDULE_ENTRIES // steps for i in range(steps)]
