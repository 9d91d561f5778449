"""`Probe`: a small convolutional network that reads a plain ToyWorld scene's attributes off one view.

Its accuracy on generated views says whether they follow the prompt; its last features are what Frechet distances are
taken between.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets.toyworld.scene import COLORS, GROUNDS, SKIES, Scene
from ...datasets.toyworld.solids import KINDS
from ...formats.files import atomic_writer
from ...text import get_logger

log = get_logger(__name__)

ATTRIBUTES = {"kind": tuple(KINDS), "color": tuple(COLORS), "ground": tuple(GROUNDS), "sky": tuple(SKIES)}
_WIDTHS = (32, 64, 96, 128)


def labels(scene: Scene) -> Tensor:
    """[4] indices of a plain scene's attributes, in `ATTRIBUTES`' order."""
    solid = scene.solids[0]
    words = (solid.kind, solid.color_word, scene.ground_word, scene.sky.word)
    return torch.tensor([values.index(word) for values, word in zip(ATTRIBUTES.values(), words, strict=True)])


class Probe(nn.Module):
    """Four strided convolutions, two poolings, one linear layer an attribute."""

    def __init__(self):
        super().__init__()
        layers, width = [], 3
        for i, wider in enumerate(_WIDTHS):
            layers += [nn.Conv2d(width, wider, 3, 1 if i == 0 else 2, 1), nn.GroupNorm(8, wider), nn.SiLU()]
            width = wider
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(2 * width, len(values)) for values in ATTRIBUTES.values())

    def features(self, images: Tensor) -> Tensor:
        """[N, 256] of images [N, H, W, 3] in [0, 1]: means and largest values over the picture."""
        maps = self.body(images.permute(0, 3, 1, 2) * 2 - 1)
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits of each attribute, [N, values]."""
        features = self.features(images)
        return [head(features) for head in self.heads]

    @torch.no_grad()
    def right(self, images: Tensor, truth: Tensor) -> Tensor:
        """[N, 4] 1 where an attribute is read as in ``truth`` [N, 4]."""
        return torch.stack([logits.argmax(1) for logits in self(images)], 1).eq(truth).float()


def train_probe(path: Path, data, *, scenes: int = 4000, steps: int = 1500, seed: int = 0) -> Probe:
    """The probe in ``path``, trained on true views first if it is not there.

    Args:
        data: `toyworld.ToyWorldData` of the "train" split without held-out pairs.
    """
    from safetensors.torch import load_file, save

    probe = Probe()
    if path.is_file():
        probe.load_state_dict(load_file(path))
        return probe.eval()
    log.info("Training the probe on %d scenes.", scenes)
    images, truth = [], []
    for i in range(scenes):
        sample = data.raw("multiview", 500_000 + i, 0)
        images.append((sample.images[i % len(sample.images)].permute(1, 2, 0) * 255).round().to(torch.uint8))
        truth.append(labels(sample.scene))
    images, truth = torch.stack(images), torch.stack(truth)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe()
    optimizer = torch.optim.AdamW(probe.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (48,), generator=generator)
        x = images[chosen].float() / 255
        x = x + 0.05 * torch.rand(len(x), 1, 1, 1, generator=generator) * torch.randn(x.shape, generator=generator)
        loss = sum(F.cross_entropy(logits, truth[chosen, j]) for j, logits in enumerate(probe(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as stream:
        stream.write(save({name: tensor.contiguous() for name, tensor in probe.state_dict().items()}))
    return probe.eval()
