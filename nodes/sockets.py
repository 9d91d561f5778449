"""Between the values on ComfyUI's sockets and the core's two records. No math here: the frames agree.

SPLAT's world is OpenCV's like `Gaussians`' (x right, y down, z forward); LOAD3D_CAMERA's is three.js', which
`flashworld_core.trajectories.comfyui` turns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..flashworld_core.cameras import Cameras
from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.gaussians import FIRST_VIEW, Gaussians
from ..flashworld_core.text import get_logger
from .comfyui.api import SPLAT, intermediate_device, intermediate_dtype

if TYPE_CHECKING:
    from ..flashworld_core.fields import Field

logger = get_logger(__name__)

MASK_MEANINGS = ("auto", "object", "background")  # what is white in a mask
MAX_FRAMES = 10_000  # of a camera path
MAX_SIDE = 8192  # pixels of a view


def splat_from_gaussians(gaussians: Gaussians) -> SPLAT:
    """A scene as a SPLAT batch of one, float32, where the host keeps what travels between nodes. Nothing is copied
    that is there already."""
    home = gaussians.detach().to(intermediate_device(), torch.float32)
    splat = SPLAT(
        home.means[None], home.scales[None], home.quats[None], home.opacities[None, :, None], home.sh[None], None
    )
    splat.metadata = dict(gaussians.metadata)
    return splat


def gaussians_from_splat(splat: Any, index: int = 0, notify: Callable[[str], None] = logger.warning) -> Gaussians:
    """One scene of a SPLAT, ours or any node's, as float32 views of its tensors: never change them in place.

    Args:
        notify: told if there are more scenes than the one that is used.

    Raises:
        FlashWorldError: not a SPLAT, no such scene in the batch, an empty scene.
    """
    fields = ("positions", "rotations", "scales", "opacities", "sh")
    tensors = [getattr(splat, name, None) for name in fields]
    if not all(isinstance(t, Tensor) and t.ndim >= 3 for t in tensors):
        raise FlashWorldError(f"the splat input needs a SPLAT (a 3D Gaussian scene), got {type(splat).__name__}.")
    scenes = tensors[0].shape[0]
    if not 0 <= index < scenes:
        raise FlashWorldError(f"the splat holds {scenes} scenes; there is no number {index}.")
    if scenes > 1:
        notify(f"The splat holds {scenes} scenes; only number {index} of them is used.")
    counts = getattr(splat, "counts", None)
    count = tensors[0].shape[1] if counts is None else int(counts[index])
    if count < 1:
        raise FlashWorldError("the scene is empty: it has no Gaussians.")
    means, quats, scales, opacities, sh = (t[index, :count].float() for t in tensors)
    return Gaussians(means, quats, scales, opacities.reshape(count), sh, dict(getattr(splat, "metadata", None) or {}))


def checked_trajectory(value: Any) -> Cameras:
    """The value of a FLASHWORLD_TRAJECTORY socket.

    Raises:
        FlashWorldError: something else, or no views.
    """
    if not isinstance(value, Cameras):
        raise FlashWorldError(
            f"the trajectory input needs a camera path (from FlashWorld Camera Path), got {type(value).__name__}."
        )
    if len(value) == 0:
        raise FlashWorldError("the camera path is empty.")
    return value


def image_out(image: Tensor, clamped: bool = False) -> Tensor:
    """[B, H, W, C] as an IMAGE, or [B, H, W] as a MASK: clamped to 0..1, in the host's device and precision.

    Args:
        clamped: it is already; then nothing is copied that is there already.
    """
    image = image.detach() if clamped else image.detach().clamp(0, 1)
    return image.to(intermediate_device(), intermediate_dtype())


def picture_in(image: Any, notify: Callable[[str], None] = logger.warning, node_input: str = "image") -> Tensor:
    """The first picture of an IMAGE batch as [H, W, 3] float32 on the CPU in [0, 1]; transparency is laid on white.

    Args:
        notify: told if there are more pictures than the one that is used.

    Raises:
        FlashWorldError: not an IMAGE, an empty batch, numbers that are not finite.
    """
    if isinstance(image, (list, tuple)) and len(image):  # some packs hand lists of pictures on as one value
        if len(image) > 1:
            notify(f"The {node_input} input holds a list of {len(image)} pictures; only the first is used.")
        image = image[0]
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        shape = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise FlashWorldError(f"{node_input} must be an IMAGE [B, H, W, C], got {shape}.")
    if len(image) > 1:
        notify(
            f"The {node_input} input is a batch of {len(image)} pictures; only the first is used. For a scene of each, "
            "put Rebatch Images with batch_size 1 before this node; another one, Image From Batch picks."
        )
    picture = image[0].detach().float().cpu()
    if not bool(torch.isfinite(picture).all()):
        raise FlashWorldError(f"{node_input} has numbers that are not finite (NaN); check the node it comes from.")
    picture = picture.clamp(0, 1)
    if picture.shape[-1] == 4:
        return picture[..., :3] * picture[..., 3:] + (1 - picture[..., 3:])
    return picture.expand(-1, -1, 3).contiguous()


def first_camera(value: Any, notify: Callable[[str], None], name: str = "camera") -> dict:
    """The LOAD3D_CAMERA to use where one is wanted: of a list the first, which is said.

    Raises:
        FlashWorldError: not a LOAD3D_CAMERA.
    """
    from ..flashworld_core.trajectories.comfyui import infos_of

    infos = infos_of(value, name)
    if len(infos) > 1:
        notify(f"The {name} input holds {len(infos)} cameras; the first is used.")
    return infos[0]


def mask_in(mask: Any, size: tuple[int, int], meaning: str, say: Callable[[str], None]) -> Tensor | None:
    """The first mask of a MASK as [H, W] float32 on the CPU, 1 on the object, of the image's size.

    Args:
        mask: MASK; None: none.
        size: (height, width) of the image.
        meaning: one of `MASK_MEANINGS`. Load Image gives masks that are 1 around the object.
        say: told what was guessed or changed.

    Returns:
        None where the mask says nothing: what Load Image gives for images without transparency.

    Raises:
        FlashWorldError: not a MASK, or numbers that are not finite.
    """
    from torch.nn.functional import interpolate

    checked_choice("mask_is", meaning, MASK_MEANINGS)
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3) or 0 in mask.shape:
        shape = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise FlashWorldError(f"mask must be a MASK [B, H, W], got {shape}.")
    if mask.ndim == 3 and len(mask) > 1:
        say(f"The mask input is a batch of {len(mask)}; only the first is used.")
    mask = (mask if mask.ndim == 2 else mask[0]).detach().float().cpu()
    if not bool(torch.isfinite(mask).all()):
        raise FlashWorldError("mask has numbers that are not finite (NaN); check the node it comes from.")
    if tuple(mask.shape) == (64, 64) != size and not bool(mask.any()):
        return None
    if tuple(mask.shape) != size:
        say(f"The mask is {mask.shape[1]}x{mask.shape[0]}; it is scaled to the image's {size[1]}x{size[0]}.")
        mask = interpolate(mask[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    mask = mask.clamp(0, 1)
    if meaning == "auto":
        border = torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        if float(border.mean()) > 0.5 and bool((mask < 0.5).any()):
            say("The mask is white at the edges: taken as white around the object, as Load Image gives it (mask_is).")
            return 1 - mask
    return 1 - mask if meaning == "background" else mask


def field_in(value: Any) -> Field:
    """The value of a FIELD socket.

    Raises:
        FlashWorldError: something else.
    """
    from ..flashworld_core.fields import Field

    if not isinstance(value, Field):
        raise FlashWorldError(f"the field input needs a FIELD (from Image to Object), got {type(value).__name__}.")
    return value


def checked_choice(name: str, value: str, options: Collection[str]) -> None:
    """Refuse what is not in a list: hosts up to 0.3 take any value for a list of this kind of node.

    Raises:
        FlashWorldError: ``value``, of the input called ``name``, is none of ``options``.
    """
    if not isinstance(value, str) or value not in options:
        raise FlashWorldError(f"{name} must be one of {', '.join(options)}; got {str(value)[:80]!r}.")


def checked_numbers(**values: float) -> None:
    """Refuse what a host's range check lets through.

    Raises:
        FlashWorldError: a value, called by its input's name, is NaN or infinite.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise FlashWorldError(f"{name} must be a finite number, got {value}.")


def viewpoints(scene: Gaussians, trajectory: Any = None) -> Tensor | None:
    """[P, 3] where a scene is looked at from: the cameras of the path, else the view it was made from, if it says."""
    from ..flashworld_core.trajectories.comfyui import from_load3d

    if trajectory is not None:
        return checked_trajectory(trajectory).positions
    camera = camera_of(scene)
    return None if camera is None else from_load3d(camera, 1, 1).positions


def camera_of(scene: Gaussians) -> dict | None:
    """LOAD3D_CAMERA of the view a scene was made from; None where it names none that can be used."""
    from ..flashworld_core.trajectories.comfyui import from_load3d

    camera = scene.metadata.get(FIRST_VIEW)
    if not isinstance(camera, dict):
        return None
    try:
        from_load3d(camera, 1, 1)
    except FlashWorldError:
        return None  # metadata comes from files: ignore an invalid entry
    return camera


def renderable_scene(splat, notify: Callable[[str], None] = logger.warning) -> Gaussians:
    """The scene of a SPLAT, checked for numbers that cannot be drawn; ``notify`` as in `gaussians_from_splat`.

    Raises:
        FlashWorldError: not a scene, an empty one, or one with NaN; says what to do.
    """
    from ..flashworld_core.ops.measure import finite_mask

    scene = gaussians_from_splat(splat, notify=notify)
    bad = int((~finite_mask(scene)).sum())
    if bad:
        raise FlashWorldError(
            f"{bad:,} of the scene's {len(scene):,} Gaussians have numbers that are not finite (NaN). Put Clean Scene "
            "before this node: it drops them."
        )
    return scene
