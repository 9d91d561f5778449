"""`Gaussians`: the record that carries a scene through the pack."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .errors import FlashWorldError

SH_COEFFICIENTS = (1, 4, 9, 16)  # (degree + 1) ** 2 for degree 0..3

# Keys of `Gaussians.metadata`. Values are JSON values.
GENERATOR = "generator"  # name of the generator that made the scene
MODEL_ID = "model_id"  # which weights
VERSION = "version"  # of this package
SEED = "seed"
PROMPT_SHA256 = "prompt_sha256"  # first 16 hexadecimal digits
TRAJECTORY_SHA256 = "trajectory_sha256"  # first 16 hexadecimal digits, see `cameras.path_hash`
TIMESTEP_INDICES = "timestep_indices"  # of the noise schedule, one per step
SCENE_SCALE = "scene_scale"  # world units per unit of the generator; follows `ops.transform.transform`
FOCAL_PX = "focal_px"  # mean focal length of the generation views, in their pixels
FIRST_VIEW = "camera"  # LOAD3D_CAMERA of the view the scene was made from
SOURCE_UP = "source_up"  # axis that pointed up in the world it was read from, before it was turned into ours
FILTER = "filter"  # "antialiased": opacities belong to a low-pass filter that keeps energy (mip-splatting)
KIND = "kind"  # "2dgs": discs, their third scale is 0
MERGED_FROM = "merged_from"  # list of the metadata of the scenes that were joined


def positive_number(metadata: dict, key: str) -> float | None:
    """Read a number above 0 of the metadata of a file by anyone; None where there is none."""
    value = metadata.get(key)
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
    except OverflowError:
        return None
    return number if 1e-30 < number < 1e30 else None


@dataclasses.dataclass(frozen=True)
class Gaussians:
    """A scene of N anisotropic 3D Gaussians, activated values (no logits, no logarithms).

    The world frame is OpenCV-style: x right, y down, z forward; units are the scene's own.

    Attributes:
        means: [N, 3] float, centers in world units.
        quats: [N, 4] float, rotations wxyz, unit length: local axes to world.
        scales: [N, 3] float, standard deviations along the local axes in world units, >= 0.
        opacities: [N] float in [0, 1].
        sh: [N, K, 3] float, real spherical-harmonic color coefficients (3DGS signs), K = (degree + 1)^2.
        metadata: generator, seed, prompt and path hashes, scene scale: JSON values only.

    Raises:
        FlashWorldError: tensors whose shapes do not belong together.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh: Tensor
    metadata: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        n = self.means.shape[0]
        expected = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise FlashWorldError(f"{name} must be {list(shape)}, got {list(getattr(self, name).shape)}.")
        shape = tuple(self.sh.shape)
        if len(shape) != 3 or shape[::2] != (n, 3) or shape[1] not in SH_COEFFICIENTS:
            raise FlashWorldError(f"sh must be [{n}, K, 3] with K in {SH_COEFFICIENTS}, got {list(self.sh.shape)}.")

    def __len__(self) -> int:
        return self.means.shape[0]

    def __getitem__(self, index) -> Gaussians:
        """The Gaussians at a slice, boolean mask [N] or index tensor; metadata is kept."""
        return self.map(lambda t: t[index])

    @property
    def sh_degree(self) -> int:
        return SH_COEFFICIENTS.index(self.sh.shape[1])

    @property
    def device(self) -> torch.device:
        return self.means.device

    def map(self, function) -> Gaussians:
        """The record with ``function`` applied to each of its five tensors."""
        return Gaussians(
            function(self.means),
            function(self.quats),
            function(self.scales),
            function(self.opacities),
            function(self.sh),
            dict(self.metadata),
        )

    def to(self, device=None, dtype=None) -> Gaussians:
        return self.map(lambda t: t.to(device, dtype))

    def detach(self) -> Gaussians:
        return self.map(Tensor.detach)
