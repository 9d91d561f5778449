"""Optimizers of the players, their learning rates over iterations, and running averages of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .config import Optimizer


def learning_rate(config: Optimizer, iteration: int, iterations: int) -> float:
    """The learning rate of an iteration, counted from 0.

    Linear warm-up reaches the peak at iteration ``warmup`` - 1. "linear" then holds it up to and with ``decay_from``
    and falls in a straight line to 0 at ``decay_to``; "cosine" falls from the warm-up's end to ``floor`` x peak at
    ``decay_to`` and keeps that.

    Args:
        iterations: the stage's length, which ``decay_to`` 0 stands for.
    """
    if iteration < config.warmup:
        return config.lr * (iteration + 1) / config.warmup
    end = config.decay_to or iterations
    if config.schedule == "linear":
        return config.lr * min(1.0, max(0.0, (end - iteration) / max(1, end - config.decay_from)))
    if config.schedule == "cosine":
        progress = min(1.0, (iteration - config.warmup) / max(1, end - config.warmup))
        return config.lr * (config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * progress)))
    return config.lr


def build_adamw(config: Optimizer, modules: Iterable[nn.Module]) -> torch.optim.AdamW:
    """AdamW over the modules' trainable parameters, without decay on those of one dimension or none."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, betas=config.betas)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The same rate in every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradients(parameters: Iterable[Tensor], largest: float) -> Tensor:
    """Scale the gradients down to a total norm of ``largest`` (0: leave them); the norm before that, 0-d.

    Sharded gradients answer with a distributed tensor; its full value is returned.
    """
    parameters = [p for p in parameters if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, largest or math.inf)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float, updates: int) -> None:
    """Move ``average`` towards ``module``: a <- d a + (1 - d) w, with d = min(decay, (1 + n) / (10 + n)).

    Args:
        updates: n, updates made so far with this one: early averages forget the start faster.
    """
    decay = min(decay, (1 + updates) / (10 + updates))
    for kept, now in zip(average.parameters(), module.parameters(), strict=True):
        kept.lerp_(now.to(kept.dtype), 1 - decay)
    for kept, now in zip(average.buffers(), module.buffers(), strict=True):
        kept.copy_(now)
