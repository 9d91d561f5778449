"""`VFusion3DNetwork`: image encoder, camera embedder, triplane transformer and field decoder, by the published keys."""

from __future__ import annotations

from torch import Tensor, nn

from ...models.triplane import FieldDecoder, TriplaneTransformer
from ...models.vit import VisionTransformer
from .config import CAMERA_NUMBERS, VFusion3DConfig

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class VFusion3DNetwork(nn.Module):
    """Image and source camera to planes.

    Args:
        config: sizes.
    """

    def __init__(self, config: VFusion3DConfig):
        super().__init__()
        self.config = config
        self.encoder = nn.Module()
        self.encoder.model = VisionTransformer(config.encoder)
        self.camera_embedder = nn.Module()
        width = config.triplane.condition
        self.camera_embedder.mlp = nn.Sequential(nn.Linear(CAMERA_NUMBERS, width), nn.SiLU(), nn.Linear(width, width))
        self.transformer = TriplaneTransformer(config.triplane)
        self.synthesizer = nn.Module()
        self.synthesizer.decoder = FieldDecoder(config.triplane)

    def forward(self, images: Tensor, cameras: Tensor) -> Tensor:
        """Make planes.

        Args:
            images: [B, 3, S, S] in [0, 1].
            cameras: [B, 16], see `cameras.source_camera`.

        Returns:
            [B, 3, channels, R, R].
        """
        return self.planes(self.image_tokens(images), cameras)

    def planes(self, image_tokens: Tensor, cameras: Tensor) -> Tensor:
        """Make planes of what `image_tokens` gave; see `forward`."""
        return self.transformer(image_tokens, self.camera_embedder.mlp(cameras))

    def stages(self) -> dict[str, nn.Module]:
        """The parts that visit a device one after the other. Fields bring a copy of the decoder (40 KB)."""
        return {
            "encoder": self.encoder,
            "transformer": nn.ModuleList([self.camera_embedder, self.transformer]),
            "decoder": self.synthesizer,
        }

    def image_tokens(self, images: Tensor) -> Tensor:
        """[B, 1 + patches, C] of images [B, 3, S, S] in [0, 1]."""
        return self.encoder.model(normalized(images))


def normalized(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [0, 1] with ImageNet's mean and deviation taken out."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std
