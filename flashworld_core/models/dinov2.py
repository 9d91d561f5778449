"""DINOv2 with registers: images to tokens, by transformers' class, from local files of any of its three layouts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints.assign import assign, check_names_and_shapes, expected_shapes
from ..checkpoints.open import WeightFile, open_weights, unwrapped
from ..errors import FlashWorldError

# ImageNet's channel means and deviations, of colors in [0, 1]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILE_NAMES = ("image_encoder.safetensors", "dinov2_vitl14_reg4_pretrain.pth", "dinov2_vitl14_reg.safetensors",
              "image_encoder")  # fmt: skip
ADVICE = (
    "get dinov2_vitl14_reg4_pretrain.pth (DINOv2 ViT-L/14 with registers, Apache-2.0) and put it beside the model, or "
    "give its path as image_encoder"
)
# Pieces of transformers' names, of version 4 and of version 5, and of the original repository's.
_PIECES = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.register_tokens", "register_tokens"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("encoder.layer.", "blocks."),
    (".attention.attention.query.", ".attn.q."),
    (".attention.attention.key.", ".attn.k."),
    (".attention.attention.value.", ".attn.v."),
    (".attention.output.dense.", ".attn.proj."),
    (".attention.q_proj.", ".attn.q."),
    (".attention.k_proj.", ".attn.k."),
    (".attention.v_proj.", ".attn.v."),
    (".attention.o_proj.", ".attn.proj."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
    ("layernorm.", "norm."),
)
_THIRDS = {"q": 0, "k": 1, "v": 2}  # of the original repository's joint projection


@dataclasses.dataclass(frozen=True)
class Dinov2Config:
    """Sizes of a DINOv2 with registers; the defaults are ViT-L/14 at TRELLIS's image size."""

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 518
    patch_size: int = 14
    num_register_tokens: int = 4
    mlp_ratio: int = 4

    @property
    def tokens(self) -> int:
        """Class token, registers and patches."""
        return 1 + self.num_register_tokens + (self.image_size // self.patch_size) ** 2


class ImageTokens(nn.Module):
    """Images to the tokens before DINOv2's last norm, each brought to mean 0 and deviation 1."""

    def __init__(self, config: Dinov2Config):
        super().__init__()
        from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

        self.config = config
        self.model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**dataclasses.asdict(config)))
        self.model.layernorm = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S], normalized by `MEAN` and `DEVIATION`, to [B, tokens, hidden_size]."""
        tokens = self.model(images.to(next(self.parameters()).dtype)).last_hidden_state
        return F.layer_norm(tokens.float(), tokens.shape[-1:])


def normalize(images: Tensor) -> Tensor:
    """Colors [..., 3, H, W] in [0, 1] as the network takes them."""
    mean, deviation = (torch.tensor(v, device=images.device)[:, None, None] for v in (MEAN, DEVIATION))
    return (images - mean) / deviation


def plain_name(name: str) -> str:
    """A tensor's name in the original repository's manner, from any of the three layouts."""
    for theirs, plain in _PIECES:
        name = name.replace(theirs, plain) if theirs in name else name
    return name


def find_image_encoder(folder: Path) -> Path | None:
    """The image encoder beside a model."""
    return next((folder / name for name in FILE_NAMES if (folder / name).exists()), None)


def load_image_encoder(
    source: str | Path | WeightFile, config: Dinov2Config, *, dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu", prefix: str = "",
) -> ImageTokens:  # fmt: skip
    """Load the network from a local file; nothing is downloaded.

    Args:
        source: a file or folder of the original repository's layout (joint ``qkv``) or transformers', or an open one.
        prefix: of its tensors' names in a file that holds more.

    Raises:
        FlashWorldError: another network, or one without registers.
    """
    weights = source if isinstance(source, WeightFile) else open_weights(source)
    prefix, names = (prefix, [n.removeprefix(prefix) for n in weights.entries if n.startswith(prefix)]) if prefix else (
        unwrapped(list(weights.entries))
    )  # fmt: skip
    stored = {plain_name(name): prefix + name for name in names}
    with torch.device("meta"):
        model = ImageTokens(config)
    expected = {name: plain_name(name.removeprefix("model.")) for name in expected_shapes(model)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, key in stored.items():
        shape = weights.entries[key].shape
        if match := re.search(r"\.attn\.qkv\.(weight|bias)$", name):
            if shape[0] % 3 == 0:
                shapes |= {
                    name.replace(f"qkv.{match[1]}", f"{part}.{match[1]}"): (shape[0] // 3, *shape[1:])
                    for part in _THIRDS
                }
        elif not name.startswith("norm."):
            shapes[name] = shape
    if "register_tokens" not in shapes:
        raise FlashWorldError(f"{weights.path} is not a DINOv2 with registers; {ADVICE}.")
    check_names_and_shapes(
        {expected[name]: shape for name, shape in expected_shapes(model).items()}, shapes, "image encoder", weights.path
    )

    def read(name: str) -> Tensor:
        plain = expected[name]
        if plain in stored:
            return weights.read(stored[plain])
        part = re.search(r"\.attn\.([qkv])\.", plain)[1]
        joint = weights.read(stored[plain.replace(f".attn.{part}.", ".attn.qkv.")])
        return joint.chunk(3)[_THIRDS[part]].clone()

    assign(model, read, dtype=dtype, device=device)
    return model.eval().requires_grad_(False)
