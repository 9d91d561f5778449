"""Several processes as one trainer: torch's FSDP2, activation checkpointing, and checkpoints for any world size."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from ..errors import FlashWorldError
from .config import Run
from .state import load_player_states, player_states
from .trainer import World

BLOCKS = ("WanTransformerBlock", "UpBlock", "MidBlock", "UMT5Block")
"""Classes whose instances are gathered, and recomputed, one at a time."""


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[World]:
    """The processes torchrun started, as a `World`; alone where it did not.

    Raises:
        FlashWorldError: processes that do not find each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise FlashWorldError(f"The processes do not find each other: {error}; start them with torchrun.") from error
    try:
        yield World(
            rank=dist.get_rank(), size=dist.get_world_size(), any_true=lambda flag: _any_true(flag, device),
            gather=_gather,
        )  # fmt: skip
    finally:
        dist.destroy_process_group()


class Sharding:
    """Shards modules over the processes, block by block, and recomputes blocks in backward.

    Args:
        run: its ``shard_size`` processes share one copy of each network; ``checkpoint_blocks`` says which blocks are
            recomputed.
        world: alone, nothing is sharded.
        device: of the networks.

    Raises:
        FlashWorldError: a shard size that does not divide the number of processes.
    """

    def __init__(self, run: Run, world: World, device: torch.device):
        self.every, self.mesh = run.checkpoint_blocks, None
        if world.size == 1:
            return
        size = run.shard_size or world.size
        if world.size % size:
            raise FlashWorldError(f"shard_size {size} does not divide the {world.size} processes.")
        shape = (size,) if size == world.size else (world.size // size, size)
        names = ("shard",) if len(shape) == 1 else ("replicate", "shard")
        self.mesh = dist.device_mesh.init_device_mesh(device.type, shape, mesh_dim_names=names)

    def __call__(self, module: nn.Module, *, trained: bool = True) -> None:
        """Shard a network in place. Its optimizer is built afterwards; only ``module(...)`` gathers its parameters.

        Args:
            trained: recompute its blocks in backward.
        """
        if trained and self.every:
            recompute_blocks(module, self.every)
        if self.mesh is None:
            return
        from torch.distributed.fsdp import fully_shard

        for block in shard_units(module):
            fully_shard(block, mesh=self.mesh)


def shard_units(module: nn.Module) -> list[nn.Module]:
    """What is sharded on its own: the blocks, innermost first, then the network itself."""
    blocks = [part for part in module.modules() if type(part).__name__ in BLOCKS]
    return [*reversed([block for block in blocks if block is not module]), module]


def recompute_blocks(module: nn.Module, every: int) -> None:
    """Wrap every k-th transformer block so that backward recomputes what is inside; parameter names stay."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl, checkpoint_wrapper

    blocks = getattr(module, "blocks", None)
    if blocks is None and hasattr(module, "transformer"):
        blocks = module.transformer.blocks
    for i in range(0, len(blocks or ()), every):
        blocks[i] = checkpoint_wrapper(blocks[i], CheckpointImpl.NO_REENTRANT, preserve_rng_state=False)


class ShardedStorage:
    """Checkpoints every process writes its part of (torch's distributed checkpoint), for `state.RunFolder`.

    Torch keeps their index as a pickle: go on only with run folders you trust.
    """

    def barrier(self) -> None:
        """Wait for all processes."""
        dist.barrier()

    def write(self, folder: Path, trainer) -> None:
        """All players' modules, averages and optimizers into ``folder/shards``."""
        import torch.distributed.checkpoint as dcp

        dcp.save(player_states(trainer), checkpoint_id=str(folder / "shards"))

    def read(self, folder: Path, trainer) -> None:
        """The counterpart of `write`, for any number of processes, and of a single process's file."""
        load_player_states(folder, trainer)


def _any_true(flag: bool, device: torch.device) -> bool:
    value = torch.tensor(float(flag), device=device if device.type == "cuda" else "cpu")
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return bool(value)


def _gather(items: list) -> list:
    """The items of all processes, in their order."""
    found: list = [None] * dist.get_world_size()
    dist.all_gather_object(found, items)
    return [item for part in found for item in part]
