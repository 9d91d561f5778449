"""A user's request, checked before any work is done and brought into the form the networks take."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...cameras import Cameras
from ...errors import FlashWorldError, check_stop
from ...flow.schedule import Schedule, shifted_schedule
from ...gaussians import FOCAL_PX, PROMPT_SHA256, SCENE_SCALE, TIMESTEP_INDICES, TRAJECTORY_SHA256, Gaussians
from ...media.cutout import check_mask, cut_out
from ...media.images import WHITE, open_image
from ...rendering.constants import mean_focal
from .cameras import WorldFrame, camera_to_world_matrices, normalize_path, path_hash, vectors_to_cameras
from .config import FlashWorldConfig

if TYPE_CHECKING:
    from ...media.images import ImageLike
    from ..base import Request

SCHEDULE_ENTRIES = 1000
TEXT_EMBEDS = "text_embeds"  # option: [1, L, D] embedding in place of the text encoder's
NOISE = "noise"  # option: a `flow.noise.NoiseSource` in place of the seed's
OPTIONS = (TEXT_EMBEDS, NOISE)
_FINER = 4  # times the views' size: what masks are applied at


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A checked request in the networks' form: what the sampler is given, and the way back.

    Attributes:
        conditions: the networks' input.
        cameras: the views that are generated, in the user's world, intrinsics for the generated size.
        frame: where the normalized frame lies in the user's world.
        schedule: noise levels of the steps.
        metadata: what the finished scene says about its origin.
    """

    conditions: Conditions
    cameras: Cameras
    frame: WorldFrame
    schedule: Schedule
    metadata: dict

    def finish(self, gaussians: Gaussians) -> Gaussians:
        """A scene of the normalized frame in the user's world, with its metadata."""
        return dataclasses.replace(self.frame.apply(gaussians), metadata=dict(self.metadata))


def check_request(config: FlashWorldConfig, request: Request) -> None:
    """Refuse a request the model cannot carry out, before any work.

    Raises:
        FlashWorldError: nothing to make a scene from, an empty path, more than one image, options of other
            generators, or views as in `check_views`.
    """
    if not request.images and not request.prompt.strip() and request.options.get(TEXT_EMBEDS) is None:
        raise FlashWorldError("Give an image, a prompt, or both; there is nothing to make a scene from.")
    if len(request.images) > 1:
        raise FlashWorldError(f"The model takes one image, got {len(request.images)}.")
    if unknown := sorted(set(request.options) - set(OPTIONS)):
        raise FlashWorldError(f"FlashWorld takes no option {', '.join(unknown)}; it knows {', '.join(OPTIONS)}.")
    if len(request.cameras) == 0:
        raise FlashWorldError("The camera path is empty; it needs at least one camera.")
    width, height = request.size or (request.cameras.width, request.cameras.height)
    count = len(request.cameras) if request.views is None else request.views
    check_views(config, width, height, count, request.images[0].view if request.images else 0)
    shifted_schedule(config.shift, SCHEDULE_ENTRIES).select(_timestep_indices(config, request.steps))


def prepare_request(
    config: FlashWorldConfig,
    request: Request,
    *,
    embed: Callable[[str], Tensor],
    origin: dict | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Prepared:
    """Check a request and bring it into the networks' form.

    Args:
        embed: the text encoder, called once, after every check: prompt to [1, L, D].
        origin: metadata entries to begin with (generator, model, seed).
        should_stop: asked before the text is encoded.

    Raises:
        FlashWorldError: as `check_request`, and an image that cannot be read.
        Cancelled: ``should_stop`` answered True.
    """
    check_request(config, request)
    cameras = request.cameras
    width, height = request.size or (cameras.width, cameras.height)
    indices = _timestep_indices(config, request.steps)
    schedule = shifted_schedule(config.shift, SCHEDULE_ENTRIES).select(indices)

    pixels, image_index = None, 0
    crop = Crop.centered(cameras.width, cameras.height, width, height)
    if request.images:
        image_index = request.images[0].view
        pixels, crop = prepare_image(
            request.images[0].image,
            width,
            height,
            cameras_size=(cameras.width, cameras.height),
            mask=request.images[0].mask,
        )
    cameras = crop.adjust_intrinsics(cameras)
    vectors, cameras, frame = normalize_path(cameras, request.views)
    check_stop(should_stop)
    conditions = Conditions(vectors, width, height, embed(request.prompt), pixels, image_index)
    metadata = {
        **(origin or {}),
        PROMPT_SHA256: hashlib.sha256(request.prompt.encode()).hexdigest()[:16],
        TRAJECTORY_SHA256: path_hash(cameras),
        SCENE_SCALE: frame.scale,
        FOCAL_PX: mean_focal(cameras),
        TIMESTEP_INDICES: indices,
    }
    return Prepared(conditions, cameras, frame, schedule, metadata)


def check_views(config: FlashWorldConfig, width: int, height: int, views: int, image_index: int = 0) -> None:
    """Refuse views the model cannot make.

    Raises:
        FlashWorldError: a size the networks cannot divide, too many views, or no view of that index.
    """
    _check_size(config, width, height)
    if not 1 <= views <= config.max_positions:
        raise FlashWorldError(f"The model takes 1 to {config.max_positions} views, got {views}.")
    if not 0 <= image_index < views:
        raise FlashWorldError(f"image_index {image_index} names no view; the path has views 0 to {views - 1}.")


def _check_size(config: FlashWorldConfig, width: int, height: int) -> None:
    rows, columns = config.size_multiple
    if width < 1 or height < 1 or width % columns or height % rows:
        raise FlashWorldError(
            f"The model cannot make {width}x{height}; the width must be a multiple of {columns} "
            f"(nearest: {_nearest_multiples(width, columns)}), the height of {rows} "
            f"(nearest: {_nearest_multiples(height, rows)})."
        )
    widest, highest = columns * config.max_positions, rows * config.max_positions
    if width > widest or height > highest:
        raise FlashWorldError(f"The model takes images up to {widest}x{highest}, got {width}x{height}.")


def _nearest_multiples(value: int, factor: int) -> str:
    below = max(value, 0) // factor * factor
    return " or ".join(str(n) for n in (below, below + factor) if n > 0 and (n == below or below != value))


def _timestep_indices(config: FlashWorldConfig, steps: int | Sequence[int] | None) -> list[int]:
    if steps is None:
        return list(config.timestep_indices)
    if not isinstance(steps, int):
        return [int(i) for i in steps]
    if not 1 <= steps <= SCHEDULE_ENTRIES:
        raise FlashWorldError(f"steps must be 1..{SCHEDULE_ENTRIES}, got {steps}.")
    return [i * SCHEDULE_ENTRIES // steps for i in range(steps)]


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a scene is made from, in the form the networks take.

    Attributes:
        cameras: [T, 11] float32 camera vectors in FlashWorld's normalized OpenGL frame.
        width, height: size of the views in pixels.
        text: [1, L, D] text embedding, padding rows zero.
        image: [3, H, W] in [-1, 1], or None for a scene from text alone.
        image_index: the view that ``image`` shows.
    """

    cameras: Tensor
    width: int
    height: int
    text: Tensor
    image: Tensor | None = None
    image_index: int = 0


def rendering_cameras(conditions: Conditions) -> Cameras:
    """Cameras for Gaussians of the normalized frame: OpenCV camera axes, FlashWorld's OpenGL world axes."""
    vectors = conditions.cameras
    cameras = vectors_to_cameras(vectors, conditions.width, conditions.height)
    flip = vectors.new_tensor((1.0, -1.0, -1.0, 1.0))
    return dataclasses.replace(cameras, camera_to_world=camera_to_world_matrices(vectors) * flip)


@dataclasses.dataclass(frozen=True)
class Crop:
    """How a source image became the target image: a centered box, scaled to the target's size.

    Attributes:
        source_width: width of the upright source image in pixels.
        source_height: height of the upright source image in pixels.
        left: first source column kept.
        top: first source row kept.
        box_width: number of source columns kept.
        box_height: number of source rows kept.
        scale: target pixels per source pixel.
        width: target width in pixels.
        height: target height in pixels.
    """

    source_width: int
    source_height: int
    left: int
    top: int
    box_width: int
    box_height: int
    scale: float
    width: int
    height: int

    @classmethod
    def centered(cls, source_width: int, source_height: int, width: int, height: int) -> Crop:
        """The crop FlashWorld uses: the larger of the two scales that fill the target, centered.

        The box is truncated to whole pixels by the same divisions the model was trained with; it may
        therefore be one pixel short of the exact aspect ratio.
        """
        if min(source_width, source_height, width, height) < 1:
            raise FlashWorldError(f"Sizes must be positive, got {source_width}x{source_height} to {width}x{height}.")
        scale = max(height / source_height, width / source_width)
        # A strip thinner than the target's shape allows would give an empty box; one pixel is the least.
        box_width, box_height = max(int(width / scale), 1), max(int(height / scale), 1)
        left, top = (source_width - box_width) // 2, (source_height - box_height) // 2
        return cls(source_width, source_height, left, top, box_width, box_height, scale, width, height)

    def adjust_intrinsics(self, cameras: Cameras) -> Cameras:
        """``cameras`` for the target image; the size they carry says which pixels they speak of.

        - the source image's size: focal lengths are scaled, the principal point is shifted and scaled
          (the official request JSON means this when it brings an image);
        - the target's size: returned as they are (presets and edited paths);
        - another size of the source's or of the target's shape: resized to that one first.

        Raises:
            FlashWorldError: the cameras' image shape is neither the source's nor the target's; `prepare_image` crops
                an image to the cameras' shape.
        """
        size = (cameras.width, cameras.height)
        source, target = (self.source_width, self.source_height), (self.width, self.height)
        if size == target:
            return cameras
        if size != source:
            if same_shape(size, source):
                cameras = cameras.resized(*source)
            elif same_shape(size, target):
                return cameras.resized(*target)
            else:
                raise FlashWorldError(
                    f"The cameras are for a {size[0]}x{size[1]} image, but the image is "
                    f"{source[0]}x{source[1]} and the scene is made at {target[0]}x{target[1]}; give cameras for one "
                    "of these two sizes (or of the same shape)."
                )
        intrinsics = cameras.intrinsics.to(torch.float64).clone()
        intrinsics[:, :2, :2] *= self.scale
        intrinsics[:, 0, 2] = (intrinsics[:, 0, 2] - self.left) * self.scale
        intrinsics[:, 1, 2] = (intrinsics[:, 1, 2] - self.top) * self.scale
        return dataclasses.replace(
            cameras, intrinsics=intrinsics.to(cameras.intrinsics.dtype), width=self.width, height=self.height
        )


def same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) have one aspect ratio: resizing rounds each side by less than a pixel."""
    return abs(a[0] * b[1] - a[1] * b[0]) < max(*a, *b)


def part_cameras_see(
    source: tuple[int, int], cameras: tuple[int, int], target: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The part of an image (left, top, right, bottom) that is taken for what cameras of another shape see.

    Args:
        source: the image's size (width, height).
        cameras: the size the cameras' intrinsics speak of.
        target: the views' size.

    Returns:
        The largest centered part of the cameras' shape; all of it where the cameras have the image's or the views'
        shape, for then `Crop` says what they see.
    """
    if same_shape(cameras, source) or same_shape(cameras, target):
        return 0, 0, *source
    scale = min(source[0] / cameras[0], source[1] / cameras[1])
    width, height = (max(1, min(round(scale * side), most)) for side, most in zip(cameras, source, strict=True))
    left, top = (source[0] - width) // 2, (source[1] - height) // 2
    return left, top, left + width, top + height


def prepare_image(
    image: ImageLike,
    width: int,
    height: int,
    cameras_size: tuple[int, int] | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Crop]:
    """Crop and scale a picture to the model's input.

    Args:
        image: a path, a ``data:`` URL (base64), a Pillow image, or an array or tensor [H, W], [H, W, 1|3|4] or
            [1, H, W, 1|3|4]: uint8, uint16, or float in [0, 1]. EXIF orientation is applied; transparent
            parts become white, the color FlashWorld paints behind a scene; the first frame of an animation
            is used.
        width: target width in pixels.
        height: target height in pixels.
        cameras_size: size the cameras speak of; the image is first cropped to their shape (`part_cameras_see`).
        mask: [H, W] in [0, 1] of the upright picture's size; what lies outside of it becomes white too.

    Returns:
        The image [3, height, width] float32 in [-1, 1] on the CPU, and the `Crop` that made it, whose source is the
        part that the cameras see.

    Raises:
        FlashWorldError: unreadable, damaged, too large, or not an image.
    """
    picture = open_image(image)
    if mask is not None:
        check_mask(mask, *picture.size)
    if cameras_size is not None:
        part = part_cameras_see(picture.size, cameras_size, (width, height))
        picture = picture if part == (0, 0, *picture.size) else picture.crop(part)
        mask = None if mask is None else mask[part[1] : part[3], part[0] : part[2]]
    crop = Crop.centered(picture.width, picture.height, width, height)
    from PIL import Image

    box = (crop.left, crop.top, crop.left + crop.box_width, crop.top + crop.box_height)
    kept = picture.crop(box)
    if mask is not None:
        cropped = mask[box[1] : box[3], box[0] : box[2]]
        kept = cut_out(kept, cropped, WHITE, (_FINER * width, _FINER * height))
    resized = kept.resize((width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return pixels.to(torch.float32) / 255 * 2 - 1, crop
