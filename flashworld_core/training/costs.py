"""What full-size training costs: memory of a process, floating-point operations of an update; on the meta device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..checkpoints.assign import cast
from ..generators.flashworld.config import FlashWorldConfig
from ..generators.flashworld.gaussian_decoder import GaussianDecoder
from ..generators.flashworld.transformer import FlashWorldTransformer
from ..models.wan_vae import FrameEncoder
from .distributed import shard_units
from .flashworld.critic import Critic

GPUS = {"h20": 96, "h100": 80, "h200": 141, "a100": 80, "a100-40": 40, "rtx-pro-6000": 96, "rtx-5090": 32}
"""Gigabytes of memory of a card by its name."""
_WEIGHT, _TRAINED, _AVERAGE, _FROZEN = 2, 16, 4, 2  # bytes a parameter: bfloat16; float32 with gradient and Adam; ...
_RENDER_BYTES_PER_PIXEL_AND_GAUSSIAN = 140  # list entries and projections of a view, as in `memory`
_RESERVE = 5e9  # allocator, NCCL, workspaces


@dataclasses.dataclass(frozen=True)
class Item:
    """A line of the memory table, in bytes of one process; ``whole`` is that of all processes that share it."""

    name: str
    bytes: float
    whole: float | None = None


@dataclasses.dataclass(frozen=True)
class TrainingMemory:
    """Memory of one process of stage 2, one sample at a time.

    Attributes:
        items: all lines.
        student, critic: bytes at the peak of either update.
    """

    items: list[Item]
    student: float
    critic: float

    def table(self, gpus: int, limit_gb: float | None = None) -> str:
        """The lines in GB, both peaks, and whether they fit."""
        lines = [f"{'GB':>56} {'whole':>8} {'/' + str(gpus):>8}"]
        for item in self.items:
            whole = "" if item.whole is None else f"{item.whole / 1e9:.1f}"
            lines.append(f"{item.name:56} {whole:>8} {item.bytes / 1e9:>8.1f}")
        lines.append(f"{'peak, student update':56} {'':8} {self.student / 1e9:>8.1f}")
        lines.append(f"{'peak, critic update':56} {'':8} {self.critic / 1e9:>8.1f}")
        if limit_gb is not None:
            need = max(self.student, self.critic) / 1e9
            lines.append(
                f"Fits into {limit_gb:g} GB." if need <= limit_gb
                else f"Does not fit into {limit_gb:g} GB: share each network over more GPUs."
            )  # fmt: skip
        return "\n".join(lines)


def training_memory(config: FlashWorldConfig, shards: int = 1, checkpoint_blocks: int = 1) -> TrainingMemory:
    """The memory of stage 2 with one sample a process, bfloat16 passes and float32 states, views recomputed.

    Args:
        config: sizes.
        shards: processes that share one copy of each network.
        checkpoint_blocks: recompute every k-th transformer block; 0 keeps all activations.
    """
    with torch.device("meta"):
        transformer, decoder = FlashWorldTransformer(config), GaussianDecoder(config)
        critic, encoder = Critic(config), FrameEncoder(config.vae)
    count = {
        name: sum(p.numel() for p in m.parameters()) for name, m in (("t", transformer), ("d", decoder), ("c", critic))
    }
    student = count["t"] + count["d"]
    block = max(sum(p.numel() for p in unit.parameters()) for unit in shard_units(transformer)[:-1])
    transformer.rope.to("meta")  # its tables are built on the CPU
    for module in (transformer, decoder, encoder):
        cast(module, torch.bfloat16)
    rows, columns = config.latent_size()
    text = torch.empty(1, config.text_length, config.transformer.text_dim, dtype=torch.bfloat16, device="meta")
    hidden = torch.empty(1, config.input_channels, config.views, rows, columns, dtype=torch.bfloat16, device="meta")
    time = torch.empty(1, device="meta")
    kept = saved_bytes(lambda: transformer(hidden, time, text), transformer)
    one = _block_bytes(transformer, hidden, time, text)
    inputs = _tokens(config) * config.transformer.width * 2
    blocks, rest = config.transformer.num_layers, kept - config.transformer.num_layers * one
    again = 0 if checkpoint_blocks == 0 else -(-blocks // checkpoint_blocks)
    activations = (blocks - again) * one + again * inputs + (one if again else 0) + max(0, rest)

    latents = torch.empty(1, config.latent_channels, rows, columns, dtype=torch.bfloat16, device="meta")
    features = torch.empty(
        1, config.feature_channels, rows, columns, dtype=torch.bfloat16, device="meta", requires_grad=True
    )
    view = saved_bytes(lambda: decoder(features, latents), decoder)
    view_inputs = config.views * (features.numel() + latents.numel()) * 2
    image = torch.empty(1, 3, config.height, config.width, dtype=torch.bfloat16, device="meta", requires_grad=True)
    encoded = saved_bytes(lambda: encoder.encode(image), encoder)
    grid = config.head_grid()
    gaussians = config.views * config.num_points * grid[0] * grid[1]
    head = 4 * gaussians * config.point_channels
    render = gaussians * _RENDER_BYTES_PER_PIXEL_AND_GAUSSIAN

    states = {
        "student, fp32 weights, gradients, Adam": _TRAINED * student,
        "its running average": _AVERAGE * student,
        "fake score and head, the same": _TRAINED * count["c"],
        "teacher, bf16": _FROZEN * count["t"],
    }
    items = [Item(name, size / shards, size) for name, size in states.items()]
    total = sum(states.values())
    items.append(Item("states", total / shards, total))
    gathered = 2 * block * _WEIGHT
    items += [
        Item("two gathered blocks, bf16", gathered),
        Item("transformer activations", activations, kept),
        Item("fake pass on three samples", 3 * activations, 3 * kept),
        Item("decoder, one view and all inputs", view + view_inputs, config.views * view),
        Item("head and Gaussians, and their gradients", 4 * head),
        Item("rendering lists of one view", render, config.views * render),
        Item("encoder, one view", encoded, config.views * encoded),
        Item("allocator, NCCL, workspaces", _RESERVE),
    ]
    fixed = total / shards + gathered + _RESERVE
    road = view + view_inputs + 4 * head + render + encoded
    return TrainingMemory(items, fixed + activations + road, fixed + 3 * activations)


def forward_flops(config: FlashWorldConfig) -> dict[str, float]:
    """Floating-point operations of one forward pass of a sample: transformer, decoder and encoder over all views."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        transformer, decoder, encoder = FlashWorldTransformer(config), GaussianDecoder(config), FrameEncoder(config.vae)
        transformer.rope.to("meta")
        rows, columns = config.latent_size()
        passes = {
            "transformer": lambda: transformer(
                torch.empty(1, config.input_channels, config.views, rows, columns), torch.empty(1),
                torch.empty(1, config.text_length, config.transformer.text_dim),
            ),
            "decoder": lambda: decoder(
                torch.empty(1, config.feature_channels, rows, columns),
                torch.empty(1, config.latent_channels, rows, columns),
            ),
            "encoder": lambda: encoder.encode(torch.empty(1, 3, config.height, config.width)),
        }  # fmt: skip
        found = {}
        for name, run in passes.items():
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                run()
            found[name] = counter.get_total_flops() * (1 if name == "transformer" else config.views)
    return found


def update_flops(config: FlashWorldConfig, *, guidance: bool = False) -> dict[str, float]:
    """Operations of one sample of each update at full checkpointing: a pass with gradient is four forward passes.

    Forward, again in backward, and backward of two; a backward that only reaches inputs is one. A rollout has 1.5 steps
    before the student's last, 2.5 before the critic's pass, on average over four steps.
    """
    cost = forward_flops(config)
    t, d, e = cost["transformer"], cost["decoder"], cost["encoder"]
    step = t + d + e
    return {
        "pre-training": 4 * t + 4 * d + e,
        "student": 1.5 * step + 4 * t + 4 * d + 3 * e + (2 if guidance else 1) * t + t + 3 * t,
        "critic": 2.5 * step + e + 3 * 4 * t,
        "critic without R1": 2.5 * step + e + 2 * 4 * t,
    }


def saved_bytes(function: Callable[[], object], module: nn.Module) -> int:
    """Bytes that a pass on the meta device keeps for backward, without the module's own parameters.

    Attention is counted as a fused kernel keeps it: queries, keys, values and result.
    """
    own = {t.untyped_storage()._cdata for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.device.type == "meta" and tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _FusedAttention():
        result = function()
        total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        del result
    return total


def _block_bytes(transformer: FlashWorldTransformer, *inputs: Tensor) -> int:
    """What one transformer block keeps: the difference a second of two blocks makes."""
    blocks = transformer.blocks
    sizes = []
    for count in (1, 2):
        transformer.blocks = nn.ModuleList(blocks[:count])
        sizes.append(saved_bytes(lambda: transformer(*inputs), transformer))
    transformer.blocks = blocks
    return sizes[1] - sizes[0]


def _tokens(config: FlashWorldConfig) -> int:
    rows, columns = config.latent_size()
    patch = config.patch_size
    return (config.views // patch[0]) * (rows // patch[1]) * (columns // patch[2])


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            kwargs = kwargs or {}
            query, key, value = (
                args[i] if len(args) > i else kwargs[n] for i, n in enumerate(("query", "key", "value"))
            )
            return _Attention.apply(query, key, value)
        return function(*args, **(kwargs or {}))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor):
        query, key, value, _ = ctx.saved_tensors
        return torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
