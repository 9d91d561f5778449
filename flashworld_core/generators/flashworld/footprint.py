"""Bytes each part of the model takes: weights and activations of the networks, working memory of the rest.

The networks are built and run on the meta device (`trace`); results are kept, since a plan is asked for many times with
few different sizes and a trace takes tenths of a second at full size.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from .assign import single_precision_names, target_dtype
from .config import FlashWorldConfig
from .trace import peak_bytes

FLOAT32_BYTES = 4
# UMT5-XXL, the text encoder of every Wan-sized model: embedding, 24 blocks of attention and gated feed-forward.
_UMT5_XXL = {"vocab": 256_384, "width": 4096, "inner": 10_240, "blocks": 24, "heads": 64, "buckets": 32}
# gsplat: a contiguous copy of each Gaussian (152 at degree 2); for each view it is in, projected position, depth,
# conic, radius and colours, and its list entries before and after sorting.
_CUDA_BYTES_PER_GAUSSIAN, _CUDA_BYTES_PER_GAUSSIAN_AND_VIEW = 152, 140


def text_bytes(config: FlashWorldConfig, dtype: torch.dtype, parameters: int | None = None) -> tuple[int, int] | None:
    """Of a UMT5 encoder: its weights, and the activations of one block over a full-length prompt.

    ``parameters`` None: UMT5-XXL's if the model's text is as wide as its, else the answer is None.
    """
    width, length = config.transformer["text_dim"], config.text_length
    if parameters is None:
        if width != _UMT5_XXL["width"]:
            return None
        parameters = umt5_parameters(**_UMT5_XXL)
    inner, heads = width * 5 // 2, max(width // 64, 1)
    # Scores in float32 beside their softmax and the position bias; the gated feed-forward keeps three inner rows.
    activations = 3 * heads * length**2 * FLOAT32_BYTES + (3 * inner + 6 * width) * length * dtype.itemsize
    return parameters * dtype.itemsize, activations


def umt5_parameters(vocab: int, width: int, inner: int, blocks: int, heads: int, buckets: int) -> int:
    """Parameters of a UMT5 encoder whose heads are 64 wide."""
    attention = 4 * width * heads * 64 + heads * buckets
    return vocab * width + blocks * (attention + 3 * width * inner + 2 * width) + width


@functools.lru_cache(maxsize=32)
def transformer_bytes(key: str, dtype: torch.dtype, views: int, rows: int, columns: int) -> tuple[int, int]:
    """Weights and activations of one pass over all views; ``key`` is the config as JSON, latents are rows x columns."""
    from .transformer import build_transformer

    config = FlashWorldConfig.from_json(key)
    with torch.device("meta"):
        model = build_transformer(config)
    weights = _cast(model, dtype)
    x = _meta(1, config.input_channels, views, rows, columns, dtype=dtype)
    text = _meta(1, config.text_length, config.transformer["text_dim"])
    return weights, peak_bytes(lambda: model(x, _meta(1), text))


@functools.lru_cache(maxsize=32)
def decoder_bytes(key: str, dtype: torch.dtype, views: int, rows: int, columns: int) -> tuple[int, int]:
    """Weights and activations of decoding ``views`` views to activated Gaussians; sizes as in `transformer_bytes`."""
    from .gaussian_decoder import GaussianDecoder

    config = FlashWorldConfig.from_json(key)
    with torch.device("meta"):
        model = GaussianDecoder(config)
    weights = _cast(model, dtype)
    features = _meta(views, config.feature_channels, rows, columns, dtype=dtype)
    latents, cameras = _meta(views, config.latent_channels, rows, columns), _meta(views, 11)
    return weights, peak_bytes(lambda: model.gaussians_from_raw(model(features, latents), cameras))


@functools.lru_cache(maxsize=32)
def encoder_bytes(key: str, dtype: torch.dtype, views: int, height: int, width: int) -> tuple[int, int]:
    """Weights and activations of encoding ``views`` renders of height x width pixels to latents."""
    from .encoder import FrameEncoder

    config = FlashWorldConfig.from_json(key)
    with torch.device("meta"):
        model = FrameEncoder(config)
    weights = _cast(model, dtype)
    images = _meta(views, height, width, 3)
    return weights, peak_bytes(lambda: model.encode((images.permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1)))


def render_bytes(device_type: str, gaussians: int, views: int, height: int, width: int) -> int:
    """Working memory of rendering ``gaussians`` at ``views`` views together."""
    if device_type == "cuda":
        return gaussians * (_CUDA_BYTES_PER_GAUSSIAN + views * _CUDA_BYTES_PER_GAUSSIAN_AND_VIEW)
    try:
        from ...rendering.cpu import bytes_per_view
    except ImportError:  # no numba: the torch renderer, which projects one view after the other
        return gaussians * _CUDA_BYTES_PER_GAUSSIAN_AND_VIEW
    return views * bytes_per_view(gaussians, width, height)


def world_bytes(gaussians: int, sh_coefficients: int) -> int:
    """Of turning the finished scene into the user's world."""
    from ...gaussians import Gaussians
    from ...scene import transform

    shapes = ((gaussians, 3), (gaussians, 4), (gaussians, 3), (gaussians,), (gaussians, sh_coefficients, 3))
    scene = Gaussians(*(_meta(*shape) for shape in shapes))
    turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    return peak_bytes(lambda: transform(scene, rotation=turn, scale=2.0, translation=torch.zeros(3)))


def _cast(module: nn.Module, dtype: torch.dtype) -> int:
    """A meta module in the precision `FlashWorldModel.to` gives it; the bytes of its parameters and buffers."""
    module.to("meta")  # rotary tables are made on the CPU
    keep = single_precision_names(module)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        tensor.data = tensor.data.to(target_dtype(name, tensor.dtype, dtype, keep))
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def _meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
