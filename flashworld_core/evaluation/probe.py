"""A small network that reads the words of a prompt off a view of ToyWorld, trained on true ones.

It judges whether a scene shows what its prompt asks for, and its features carry the Frechet distance. The weights ship
with the package, so that figures of different models and days are read by the same eyes; `train` makes them.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.toyworld.paths import sample_cameras
from ..datasets.toyworld.raycast import render_scene
from ..datasets.toyworld.scene import COLORS, GROUNDS, SKIES, WALLS, Scene, sample_scene
from ..datasets.toyworld.solids import KINDS
from ..errors import FlashWorldError
from ..formats.files import atomic_writer
from ..text import get_logger

log = get_logger(__name__)

WEIGHTS = Path(__file__).resolve().parent.parent / "assets" / "toyworld-probe.safetensors"
WIDTH, HEIGHT = 96, 64
"""Pixels the probe sees; views of other sizes are scaled to it."""
PLACES = (*(f"{word} sky" for word in SKIES), *(f"{word} walls" for word in WALLS))
ONE_OF = {"ground": tuple(GROUNDS), "place": PLACES, "count": (1, 2, 3, 4, 5)}
SEVERAL_OF = {"kinds": tuple(KINDS), "colors": tuple(COLORS)}
ATTRIBUTES = (*ONE_OF, *SEVERAL_OF)
FIRST_SEED = 700_000_000_000
"""Of the "train" scenes the probe learns from; models of ours never see them."""
_WIDTHS = (32, 64, 96, 128)


def labels(scene: Scene) -> dict[str, Tensor]:
    """What a scene's prompt says: an index for ground, place and count, 0 or 1 for every kind and color of solids."""
    place = f"{scene.sky.word} sky" if scene.room is None else f"{scene.room.walls_word} walls"
    kinds = {solid.kind for solid in scene.solids}
    colors = {solid.color_word for solid in scene.solids}
    return {
        "ground": torch.tensor(ONE_OF["ground"].index(scene.ground_word)),
        "place": torch.tensor(PLACES.index(place)),
        "count": torch.tensor(ONE_OF["count"].index(len(scene.solids))),
        "kinds": torch.tensor([float(kind in kinds) for kind in KINDS]),
        "colors": torch.tensor([float(color in colors) for color in COLORS]),
    }


class Probe(nn.Module):
    """Four convolutions of stride 2 with one more each, mean and largest value over places, one linear layer a word."""

    def __init__(self):
        super().__init__()
        layers, width = [], 3
        for wider in _WIDTHS:
            layers += [nn.Conv2d(width, wider, 3, 2, 1), nn.GroupNorm(8, wider), nn.SiLU()]
            layers += [nn.Conv2d(wider, wider, 3, 1, 1), nn.SiLU()]
            width = wider
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * width, len(words)) for name, words in (ONE_OF | SEVERAL_OF).items()}
        )

    def features(self, images: Tensor) -> Tensor:
        """[N, 256] of views [N, H, W, 3] in [0, 1]."""
        images = images.clamp(0, 1).permute(0, 3, 1, 2)
        if images.shape[2:] != (HEIGHT, WIDTH):
            images = F.interpolate(images, (HEIGHT, WIDTH), mode="bilinear", antialias=True)
        maps = self.body(images * 2 - 1)
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of each attribute, [N, words]."""
        features = self.features(images)
        return {name: head(features) for name, head in self.heads.items()}


@functools.cache
def load_probe(path: Path = WEIGHTS) -> Probe:
    """The probe in a file.

    Raises:
        FlashWorldError: it is not there or of another form.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    probe = Probe()
    try:
        probe.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise FlashWorldError(f"The probe {path} cannot be read ({str(error)[:200]}); reinstall the package.") from None
    return probe.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(probe: Probe, views: Tensor, scene: Scene) -> dict[str, float]:
    """How much of a scene's prompt its views [V, H, W, 3] show, by attribute, in [0, 1].

    Logits are averaged over views. Ground, place and count are right or wrong; of kinds and colors it is the share of
    those the prompt names among as many likeliest ones.
    """
    truth = labels(scene)
    logits = {name: value.mean(0) for name, value in probe(views).items()}
    found = {name: float(logits[name].argmax() == truth[name]) for name in ONE_OF}
    for name in SEVERAL_OF:
        named = int(truth[name].sum())
        found[name] = truth[name][logits[name].topk(named).indices].mean().item()
    return found


def chance(scene: Scene) -> dict[str, float]:
    """What `accuracy` gives, on average, to a guess that does not look."""
    truth = labels(scene)
    return {name: 1 / len(words) for name, words in ONE_OF.items()} | {
        name: truth[name].mean().item() for name in SEVERAL_OF
    }


def train(path: Path, *, scenes: int = 3000, updates: int = 2500, batch: int = 48, seed: int = 0) -> Probe:
    """Train a probe on true views of "train" scenes and write it, in half precision.

    A third of the views get noise and a third are blurred, so that neither is taken for a word.
    """
    from safetensors.torch import save

    images, truth = _views(scenes)
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe()
    optimizer = torch.optim.AdamW(probe.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=updates)
    for update in range(updates):
        chosen = torch.randint(len(images), (batch,), generator=draws)
        loss = _loss(probe(_spoiled(images[chosen].float() / 255, draws)), {k: v[chosen] for k, v in truth.items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if update % 100 == 0:
            log.info("probe %d of %d: loss %.3f", update, updates, loss.item())
    with atomic_writer(path) as stream:
        stream.write(save({name: tensor.half().contiguous() for name, tensor in probe.state_dict().items()}))
    return load_probe(path)


def _views(scenes: int, views: int = 4) -> tuple[Tensor, dict[str, Tensor]]:
    images, every = [], []
    for i in range(scenes):
        scene = sample_scene(FIRST_SEED + i)
        made, _ = render_scene(scene, sample_cameras(scene, views, WIDTH, HEIGHT), 2)
        images.append((made.permute(0, 2, 3, 1) * 255).round().to(torch.uint8))
        every += [labels(scene)] * views
    return torch.cat(images), {name: torch.stack([item[name] for item in every]) for name in ATTRIBUTES}


def _spoiled(images: Tensor, draws: torch.Generator) -> Tensor:
    kind = torch.rand(len(images), generator=draws)
    small = F.interpolate(images.permute(0, 3, 1, 2), scale_factor=0.5, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, images.shape[1:3], mode="bilinear").permute(0, 2, 3, 1)
    strength = 0.1 * torch.rand(len(images), 1, 1, 1, generator=draws)
    noisy = images + strength * torch.randn(images.shape, generator=draws)
    images = torch.where((kind < 1 / 3)[:, None, None, None], blurred, images)
    images = torch.where((kind > 2 / 3)[:, None, None, None], noisy, images)
    mirrored = torch.rand(len(images), generator=draws) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(2), images)


def _loss(logits: dict[str, Tensor], truth: dict[str, Tensor]) -> Tensor:
    loss = sum(F.cross_entropy(logits[name], truth[name]) for name in ONE_OF)
    return loss + sum(F.binary_cross_entropy_with_logits(logits[name], truth[name]) for name in SEVERAL_OF)
