"""Random numbers of training: each is a function of the run's seed, the update, the sample and its own name.

So there is no generator state to save: a resumed run, another number of processes and another order of drawing all
get the same numbers.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Draws:
    """The named draws of one sample of one update.

    Attributes:
        seed: of the run.
        stage: "pretrain", "distill", "evaluate" ...
        update: number of the update within the stage; each player's updates have numbers of their own by ``stage``.
        sample: the sample's global number within the update, or None for what all samples of an update share.
    """

    seed: int
    stage: str
    update: int
    sample: int | None = None

    def of(self, sample: int | None) -> Draws:
        """The draws of another sample of the same update."""
        return dataclasses.replace(self, sample=sample)

    def normal(self, name: str, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers of ``shape``, float32 on the CPU."""
        return torch.randn(tuple(shape), generator=self._generator(name))

    def uniform(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Numbers of U(0, 1), float32 on the CPU."""
        return torch.rand(tuple(shape), generator=self._generator(name))

    def integer(self, name: str, count: int) -> int:
        """A whole number of 0 .. count - 1, each as likely."""
        return int(torch.randint(count, (), generator=self._generator(name)))

    def choice(self, name: str, weights: dict[str, float]) -> str:
        """A key of ``weights``, as likely as its share of their sum."""
        point = float(self.uniform(name)) * sum(weights.values())
        for key, weight in weights.items():
            point -= weight
            if point < 0:
                return key
        return [key for key, weight in weights.items() if weight > 0][-1]

    def subset(self, name: str, count: int, size: int) -> list[int]:
        """``size`` different numbers of 0 .. count - 1, rising."""
        return sorted(torch.randperm(count, generator=self._generator(name))[:size].tolist())

    def _generator(self, name: str) -> torch.Generator:
        text = f"{self.seed}/{self.stage}/{self.update}/{self.sample}/{name}"
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        return torch.Generator("cpu").manual_seed(number)


def normal(draws: Sequence[Draws], name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers [B, *shape], those of each sample by its own draws."""
    return torch.stack([own.normal(name, shape) for own in draws])
