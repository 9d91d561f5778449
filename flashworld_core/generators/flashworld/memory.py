"""What a generation will need, stage by stage, before anything is loaded: `memory_plan` and `choose_chunk`.

Weights and activations come from the networks themselves (`footprint`), so the figures follow every config. Not
included: what an allocator loses to fragmentation, workspaces inside kernels and the CUDA context (together about 1 GB
at full size; `choose_chunk` keeps a margin).
"""

from __future__ import annotations

import functools
from collections.abc import Collection

import torch
from torch import Tensor, nn

from ...checkpoints.assign import cast
from ...errors import FlashWorldError
from ...rendering.render import expected_backend
from ...runtime.memory import MemoryPlan, StageMemory, largest_chunk, peak_bytes
from ...runtime.stages import DEFAULT_CHUNK
from .config import FlashWorldConfig

_DEVICES = ("cpu", "cuda")
FLOAT32_BYTES = 4
# UMT5-XXL, the text encoder of every Wan-sized model: embedding, 24 blocks of attention and gated feed-forward.
_UMT5_XXL = {"vocab": 256_384, "width": 4096, "inner": 10_240, "blocks": 24, "heads": 64, "buckets": 32}
_STORED = (None, torch.float8_e4m3fn, torch.int8)
# gsplat: a contiguous copy of each Gaussian (152 at degree 2); for each view it is in, projected position, depth,
# conic, radius and colors, and its list entries before and after sorting.
_CUDA_BYTES_PER_GAUSSIAN, _CUDA_BYTES_PER_GAUSSIAN_AND_VIEW = 152, 140


def memory_plan(
    config: FlashWorldConfig,
    *,
    views: int | None = None,
    height: int | None = None,
    width: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device_type: str = "cuda",
    views_per_chunk: int | None = None,
    text_parameters: int | None = None,
    text_dtype: torch.dtype | None = None,
    stored: torch.dtype | None = None,
    renderer: str = "auto",
) -> MemoryPlan:
    """Plan a generation's memory.

    Args:
        config: the model.
        views, height, width: what is generated; default: the config's own.
        dtype: of the networks: float32, bfloat16 or float16.
        device_type: "cuda" or "cpu". On the CPU networks take one view at a time, whatever the chunk.
        views_per_chunk: as in `FlashWorldModel.generate`; None takes its default.
        text_parameters: of the text encoder; None: UMT5-XXL's where the width is its, else the stage is left out.
        text_dtype: of the text encoder; default ``dtype``.
        stored: float8_e4m3fn or int8 where the linear layers of the transformer's blocks keep their weights in 8 bits.
        renderer: a backend of `rendering.render.render`; "auto" is the one that would be taken.

    Raises:
        FlashWorldError: sizes that do not fit the model, or an unknown dtype or device type.
    """
    views, height, width = views or config.views, height or config.height, width or config.width
    chunk = min(views_per_chunk or DEFAULT_CHUNK, views)
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise FlashWorldError(f"dtype must be float32, bfloat16 or float16, got {dtype}.")
    if device_type not in _DEVICES:
        raise FlashWorldError(f"device_type must be one of {_DEVICES}, got {device_type!r}.")
    if stored not in _STORED:
        raise FlashWorldError(f"stored must be one of {_STORED}, got {stored}.")
    if renderer == "auto":
        renderer = expected_backend(device_type)
    if min(views, chunk) < 1:
        raise FlashWorldError(f"views and views_per_chunk must be at least 1, got {views} and {chunk}.")
    rows, columns = config.latent_size(height, width)

    # What the sampler holds: the assembled input from the first step on, and a few float32 latents.
    pixels = views * rows * columns
    features = pixels * config.feature_channels * dtype.itemsize
    base = pixels * config.input_channels * dtype.itemsize + 3 * pixels * config.latent_channels * FLOAT32_BYTES
    base += text_key_bytes(config, dtype)
    grid_rows, grid_columns = config.head_grid(height, width)
    count = views * config.num_points * grid_rows * grid_columns
    gaussians = count * config.point_channels * FLOAT32_BYTES
    renders = views * height * width * 3 * FLOAT32_BYTES

    per_pass = 1 if device_type == "cpu" else chunk
    text = text_bytes(config, text_dtype or dtype, text_parameters)
    stages = [] if text is None else [StageMemory("text", *text, 0)]
    stages += [
        StageMemory("transformer", *transformer_bytes(config, dtype, stored, device_type, views, rows, columns), base),
        StageMemory(
            "decoder",
            *decoder_bytes(config, dtype, device_type, per_pass, rows, columns),
            base + features + gaussians,
        ),
        StageMemory(
            "renderer",
            0,
            render_bytes(renderer, count, chunk, height, width, config.sh_coefficients),
            base + features + gaussians + renders,
        ),
        StageMemory(
            "encoder",
            *encoder_bytes(config, dtype, device_type, per_pass, height, width),
            base + features + gaussians + renders,
        ),
        StageMemory("world", 0, world_bytes(count, config.sh_coefficients), base + features + gaussians),
    ]
    return MemoryPlan(tuple(stages), views, height, width, dtype, device_type, chunk, stored, renderer)


def choose_chunk(
    config: FlashWorldConfig, free_bytes: int, *, resident: Collection[str] | None = None, **options
) -> int:
    """Choose the largest ``views_per_chunk``, up to the default, whose plan fits into ``free_bytes``.

    Args:
        free_bytes, resident: as in `runtime.memory.largest_chunk`.
        options: as in `memory_plan`.

    Raises:
        FlashWorldError: not even one view at a time fits; the message says what is missing.
    """
    largest = min(DEFAULT_CHUNK, options.get("views") or config.views)
    return largest_chunk(
        lambda chunk: memory_plan(config, **(options | {"views_per_chunk": chunk})),
        free_bytes,
        largest,
        resident=resident,
    )


def text_bytes(config: FlashWorldConfig, dtype: torch.dtype, parameters: int | None = None) -> tuple[int, int] | None:
    """Of a UMT5 encoder: its weights, and the activations of one block over a full-length prompt.

    ``parameters`` None: UMT5-XXL's if the model's text is as wide as its, else the answer is None.
    """
    width, length = config.transformer.text_dim, config.text_length
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


def text_key_bytes(config: FlashWorldConfig, dtype: torch.dtype) -> int:
    """Of keys and values of the text in every block, kept for all steps."""
    return 2 * config.transformer.num_layers * config.text_length * config.transformer.width * dtype.itemsize


@functools.lru_cache(maxsize=32)
def transformer_bytes(
    config: FlashWorldConfig,
    dtype: torch.dtype,
    stored: torch.dtype | None,
    device_type: str,
    views: int,
    rows: int,
    columns: int,
) -> tuple[int, int]:
    """Weights and activations of one pass over all views; latents are rows x columns."""
    model = meta_transformer(config, stored)
    weights = _cast(model, dtype)
    x = _meta(1, config.input_channels, views, rows, columns, dtype=dtype)
    with torch.no_grad():
        keys = model.text_keys(_meta(1, config.text_length, config.transformer.text_dim))
    return weights, peak_bytes(lambda: model(x, _meta(1), keys), device_type)


def meta_transformer(config: FlashWorldConfig, stored: torch.dtype | None) -> nn.Module:
    """The transformer without numbers, its blocks' linear layers in ``stored``."""
    from ...models.quantized_linear import use_quantized_linears
    from .quantization import eight_bit_weights
    from .transformer import FlashWorldTransformer

    with torch.device("meta"):
        model = FlashWorldTransformer(config).eval()
    if stored is not None:
        use_quantized_linears(model, dict.fromkeys(eight_bit_weights(model), stored))
    return model


@functools.lru_cache(maxsize=32)
def decoder_bytes(
    config: FlashWorldConfig, dtype: torch.dtype, device_type: str, views: int, rows: int, columns: int
) -> tuple[int, int]:
    """Weights and activations of decoding ``views`` views to activated Gaussians; sizes as in `transformer_bytes`."""
    from .gaussian_decoder import GaussianDecoder

    with torch.device("meta"):
        model = GaussianDecoder(config)
    weights = _cast(model, dtype)
    features = _meta(views, config.feature_channels, rows, columns, dtype=dtype)
    latents, cameras = _meta(views, config.latent_channels, rows, columns), _meta(views, 11)
    return weights, peak_bytes(lambda: model.gaussians_from_raw(model(features, latents), cameras), device_type)


@functools.lru_cache(maxsize=32)
def encoder_bytes(
    config: FlashWorldConfig, dtype: torch.dtype, device_type: str, views: int, height: int, width: int
) -> tuple[int, int]:
    """Weights and activations of encoding ``views`` renders of height x width pixels to latents."""
    from ...models.wan_vae import FrameEncoder

    with torch.device("meta"):
        model = FrameEncoder(config.vae)
    weights = _cast(model, dtype)
    images = _meta(views, height, width, 3)
    return weights, peak_bytes(lambda: model.encode((images.permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1)), device_type)


def render_bytes(renderer: str, gaussians: int, views: int, height: int, width: int, coefficients: int) -> int:
    """Working memory of rendering ``gaussians`` at ``views`` views together, by a rendering backend."""
    if renderer == "triton":
        from ...rendering.backends.triton_gpu.launch import bytes_per_view as triton_bytes

        return views * triton_bytes(gaussians, width, height)
    if renderer == "gsplat":
        return gaussians * (_CUDA_BYTES_PER_GAUSSIAN + views * _CUDA_BYTES_PER_GAUSSIAN_AND_VIEW)
    if renderer == "cpu":
        try:
            from ...rendering.backends.cpu.rasterize import bytes_per_view
        except ImportError:  # no numba: the torch renderer takes its place
            pass
        else:
            return views * bytes_per_view(gaussians, width, height)
    from ...rendering.backends.torch_reference import bytes_per_view as torch_bytes

    return torch_bytes(gaussians, width, height, coefficients)  # one view after the other


def world_bytes(gaussians: int, sh_coefficients: int) -> int:
    """Of turning the finished scene into the user's world."""
    from ...gaussians import Gaussians
    from ...ops.transform import transform

    shapes = ((gaussians, 3), (gaussians, 4), (gaussians, 3), (gaussians,), (gaussians, sh_coefficients, 3))
    scene = Gaussians(*(_meta(*shape) for shape in shapes))
    turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    return peak_bytes(lambda: transform(scene, rotation=turn, scale=2.0, translation=torch.zeros(3)))


def _cast(module: nn.Module, dtype: torch.dtype) -> int:
    """A meta module in the precision `FlashWorldModel.to` gives it; the bytes of its parameters and buffers."""
    module.to("meta")  # rotary tables are made on the CPU
    cast(module, dtype)
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def _meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
