"""Where each part of the model runs, and when it is loaded: the seam for a host's memory manager.

A sampler enters a stage before it uses a part and leaves it afterwards. What entering means is the `Stages` object's
business: nothing (`ResidentStages`), moving the part to an accelerator and back (`OffloadStages`), or asking a host.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeVar

import torch
from torch import nn

Result = TypeVar("Result")
# "renderer" is the one stage without weights: it says where Gaussians are kept and rendered.
StageName = Literal[
    "text", "encoder", "transformer", "structure_flow", "structure_decoder", "slat_flow", "decoder", "renderer"
]


DEFAULT_CHUNK = 4  # views; fills a large GPU at full size, and keeps the decoder's memory near a fifth of the whole


class Stages:
    """Where networks run. Every network stays where it is unless a subclass says otherwise."""

    def __call__(self, name: StageName) -> AbstractContextManager[torch.device]:
        """Make the network ``name`` ready; inside the context it stays on the device the context yields."""
        raise NotImplementedError

    def recover(self, name: StageName, error: Exception, views_per_chunk: int) -> int | None:
        """Answer with how many views per chunk to do failed work again; None: the error stands."""
        return None


def retry_on_oom(stages: Stages, name: StageName, chunk: int, work: Callable[[int], Result]) -> Result:
    """Do ``work(chunk)``, which enters ``stages`` by itself, as often as they want to recover from its failures.

    Args:
        stages: their `Stages.recover` decides.
        name: the stage that counts most in the work.
        chunk: views per chunk to begin with.
    """
    while True:
        try:
            return work(chunk)
        except Exception as error:
            again = stages.recover(name, error, chunk)
            if again is None:
                raise
        # Outside of the except block: the error holds on to every tensor of the failed work.
        chunk = again


def module_device(module: Any) -> torch.device:
    """The device of a module's first parameter; of anything else (a text encoder, None) its ``device`` or the CPU."""
    if not isinstance(module, nn.Module):
        return torch.device(getattr(module, "device", "cpu"))
    return next((p.device for p in module.parameters()), torch.device("cpu"))


class ResidentStages(Stages):
    """Every part stays where it is. Gaussians are rendered where the decoder made them.

    Args:
        modules: the parts by stage name; missing ones count as on the CPU.
    """

    def __init__(self, modules: Mapping[str, Any]):
        self._modules = modules

    @contextlib.contextmanager
    def __call__(self, name: StageName) -> Iterator[torch.device]:
        yield module_device(self._modules.get("decoder" if name == "renderer" else name))


class OffloadStages(Stages):
    """Parts live on the CPU and visit ``device`` for their stage.

    Peak memory becomes that of the largest stage instead of the sum, at the price of copying weights at every visit.

    Args:
        modules: the parts by stage name, each with a ``to(device)``; missing ones are skipped.
        device: where the stages run.
        resident: stages whose parts stay on ``device`` once they are there.
    """

    def __init__(
        self,
        modules: Mapping[str, Any],
        device: str | torch.device,
        resident: Collection[StageName] = (),
    ):
        self._modules, self._device, self._resident = modules, torch.device(device), frozenset(resident)

    @contextlib.contextmanager
    def __call__(self, name: StageName) -> Iterator[torch.device]:
        module = self._modules.get(name)
        if module is None:
            yield self._device
            return
        module.to(self._device)
        try:
            yield self._device
        finally:
            if name not in self._resident:
                module.to("cpu")
                release_memory(self._device)


def release_memory(device: torch.device) -> None:
    """Hand what the allocator of ``device`` keeps in reserve back to the driver."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def chunks(views: int, size: int) -> Iterator[tuple[int, int]]:
    """First and last view (exclusive) of each chunk."""
    return ((start, min(start + size, views)) for start in range(0, views, size))


def passes(start: int, stop: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """What of a chunk goes through a network at once: all of it, but on the CPU one view.

    CPU convolutions round differently for different batch sizes, and a batch gains nothing there; view by view the
    scene is the same to the last bit for every chunk size.
    """
    return ((a, a + 1) for a in range(start, stop)) if device.type == "cpu" else iter([(start, stop)])
