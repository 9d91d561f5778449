"""Count what a generation at full size computes and moves: FLOPs and bytes for each operator, beside the floor.

The published model's stages run on the meta device, where operators have shapes and no numbers; nothing is measured.
The floor reads and writes what no implementation can avoid: every convolution, linear layer and attention takes its
inputs and weights once and writes its result once; norms read and write once; all else is free, as if fused.

    python benchmarks/work_counted.py [--write]        --write puts the tables into work_counted.md
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flashworld_core.checkpoints.assign import cast
from flashworld_core.generators.flashworld.config import FlashWorldConfig
from flashworld_core.generators.flashworld.gaussian_decoder import GaussianDecoder
from flashworld_core.generators.flashworld.memory import meta_transformer
from flashworld_core.generators.flashworld.presets import official_config
from flashworld_core.models.wan_vae import FrameEncoder

TARGET = Path(__file__).with_suffix(".md")
# Results that are views of what went in, or have no elements written.
_FREE = {
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "unsqueeze", "squeeze", "slice", "select",
    "split", "split_with_sizes", "unbind", "as_strided", "detach", "alias", "empty", "empty_like", "empty_strided",
    "new_empty", "unflatten", "chunk", "lift_fresh",
}  # fmt: skip
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "attention", "_scaled_mm"}
_NORMS = {"native_layer_norm", "rms_norm"}


@dataclasses.dataclass
class Work:
    """Of one operator: calls, floating-point operations, bytes read and written."""

    calls: int = 0
    flops: int = 0
    bytes: int = 0

    def add(self, flops: int, moved: int, times: int = 1) -> None:
        self.calls, self.flops, self.bytes = self.calls + times, self.flops + flops, self.bytes + moved


class Counter(TorchDispatchMode):
    """Counts every operator that runs inside.

    Attributes:
        work: by the operator's name.
        floor: bytes of the floor, see the module.
        largest: bytes of the largest tensor made.
    """

    def __init__(self):
        super().__init__()
        self.work: dict[str, Work] = collections.defaultdict(Work)
        self.floor = self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = function._schema.name.removeprefix("aten::")
        if name not in _FREE:
            read = {key: value for key, value in kwargs.items() if key != "out"}
            self.count(name.rstrip("_") if name.endswith("_") else name, (args, read), result)
        return result

    def count(self, name: str, given, result) -> None:
        inputs = {id(t): t for t in tree_leaves(given) if isinstance(t, Tensor)}
        outputs = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        moved = sum(map(_bytes, inputs.values())) + sum(map(_bytes, outputs))
        if name in ("copy", "zero", "fill"):  # written in place and not read
            moved -= sum(_bytes(t) for t in outputs if id(t) in inputs)
        flops = _flops(name, list(inputs.values()), outputs)
        self.work[name].add(flops, moved)
        if name in _PRODUCTS or name in _NORMS:
            self.floor += moved
        self.largest = max([self.largest, *map(_bytes, outputs)])


class _Fused(TorchFunctionMode):
    """Attention and RMS norms as the one kernel each that a GPU has for them."""

    def __init__(self, counter: Counter):
        super().__init__()
        self._counter = counter

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            query, key, value = (
                args[i] if len(args) > i else kwargs[n] for i, n in enumerate(("query", "key", "value"))
            )
            *batch, heads, tokens, _ = query.shape
            result = query.new_empty(*batch, tokens, heads, value.shape[-1]).transpose(-3, -2)
            self._counter.count("attention", (query, key, value), result)
            return result
        if function is F.rms_norm:
            result = torch.empty_like(args[0])
            self._counter.count("rms_norm", args[:1], result)
            return result
        return function(*args, **kwargs)


def _bytes(tensor: Tensor) -> int:
    """Of the elements a tensor shows; what is expanded is read once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count * tensor.element_size()


def _flops(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    if name == "attention":
        query, key, value = inputs
        return 2 * query.numel() * key.shape[-2] + 2 * query.shape[:-1].numel() * key.shape[-2] * value.shape[-1]
    if name == "convolution":
        return 2 * outputs[0].numel() * inputs[1].shape[1:].numel()
    if name in ("mm", "bmm", "_scaled_mm"):
        return 2 * outputs[0].numel() * inputs[0].shape[-1]
    if name in ("addmm", "baddbmm"):
        return 2 * outputs[0].numel() * inputs[1].shape[-1]
    return 0


def counted(function) -> Counter:
    """Run ``function`` on the meta device and count."""
    with torch.no_grad(), Counter() as counter, _Fused(counter):
        function()
    return counter


def stages(config: FlashWorldConfig, dtype: torch.dtype = torch.bfloat16, chunk: int = 4) -> dict:
    """``name -> (how often in a generation, counter of one time)`` for every network."""

    def meta(*shape, dtype=torch.float32):
        return torch.empty(shape, dtype=dtype, device="meta")

    rows, columns = config.latent_size()
    views, steps = config.views, len(config.timestep_indices)
    transformer = meta_transformer(config, None)
    with torch.device("meta"):
        decoder, encoder = GaussianDecoder(config).eval(), FrameEncoder(config.vae).eval()
    for module in (transformer, decoder, encoder):
        module.to("meta")
        cast(module, dtype)
    text = meta(1, config.text_length, config.transformer.text_dim)
    x, time = meta(1, config.input_channels, views, rows, columns, dtype=dtype), meta(1)
    with torch.no_grad():
        keys = transformer.text_keys(text)

    def decode():
        for start in range(0, views, chunk):
            n = min(chunk, views - start)
            features = meta(1, config.feature_channels, views, rows, columns, dtype=dtype)[0, :, :n].transpose(0, 1)
            latents = meta(1, config.latent_channels, views, rows, columns)[0, :, :n].transpose(0, 1)
            decoder.gaussians_from_raw(decoder(features, latents), meta(n, 11))

    def encode():
        for start in range(0, views, chunk):
            n = min(chunk, views - start)
            images = meta(n, config.height, config.width, 3)
            encoder.encode((images.permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1))

    return {
        "text keys": (1, counted(lambda: transformer.text_keys(text))),
        "transformer": (steps, counted(lambda: transformer(x, time, keys))),
        "Gaussian decoder": (steps, counted(decode)),
        "VAE encoder": (steps - 1, counted(encode)),
    }


def report(found: dict) -> str:
    """The tables of work_counted.md."""
    lines = ["| stage | times | TFLOP each | GB each | floor, GB | GB / floor |", "|---|---|---|---|---|---|"]
    sums = [0, 0, 0]
    for name, (times, counter) in found.items():
        flops, moved = (sum(getattr(w, f) for w in counter.work.values()) for f in ("flops", "bytes"))
        lines.append(
            f"| {name} | {times} | {flops / 1e12:.2f} | {moved / 1e9:.1f} | {counter.floor / 1e9:.1f} "
            f"| {moved / counter.floor:.2f} |"
        )
        sums = [total + times * value for total, value in zip(sums, (flops, moved, counter.floor), strict=True)]
    lines.append(f"| **sum** | | **{sums[0] / 1e12:.1f}** | **{sums[1] / 1e9:.0f}** | **{sums[2] / 1e9:.0f}** "
                 f"| **{sums[1] / sums[2]:.2f}** |")  # fmt: skip
    for name, (_, counter) in found.items():
        total = sum(w.bytes for w in counter.work.values())
        lines += [
            "",
            f"{name}, one time:",
            "",
            "| operator | calls | TFLOP | GB | of the bytes |",
            "|---|---|---|---|---|",
        ]
        ordered = sorted(counter.work.items(), key=lambda item: -item[1].bytes)
        lines += [
            f"| {op} | {w.calls} | {w.flops / 1e12:.2f} | {w.bytes / 1e9:.2f} | {w.bytes / total:.1%} |"
            for op, w in ordered
            if w.bytes > 0.004 * total
        ]
    return "\n".join(lines)


BEGIN, END = "<!-- counted: begin (python benchmarks/work_counted.py --write) -->", "<!-- counted: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"put the tables into {TARGET.name}")
    tables = report(stages(official_config()))
    print(tables)
    if parser.parse_args().write:
        before, _, rest = TARGET.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        TARGET.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
