"""Few-step TRELLIS by MDT-dist: the published setting, the embedded model's, and one for tests; and their stages."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import torch
from torch import nn

from ...errors import FlashWorldError
from ...generators.trellis.gaussian_decoder import GaussianDecoder
from ...generators.trellis.presets import nano_config, official_config, tiny_config
from ...generators.trellis.structure_vae import StructureDecoder
from ...text import get_logger
from ..config import Optimizer, Run
from ..metrics_log import MetricsLog
from ..objectives.mdt import MdtOptions
from ..optim import build_adamw
from ..state import RunFolder, load_checkpoint, save_atomically
from ..trainer import Player, Trainer
from ..trellis.bits import bit_decoder, filled_latents
from ..trellis.distillation import DistillationStage
from ..trellis.objects import ObjectData, occupancy
from ..trellis.recipe import Distill, Settings, TrellisRecipe
from ..trellis.stages import (
    FlowData,
    Flows,
    FlowStage,
    GaussianDecoderStage,
    StructureVae,
    StructureVaeStage,
)  # fmt: skip

log = get_logger(__name__)


def _settings(
    iterations: int, lr: float, *, group: int = 16, batch: int = 1, average: float = 0.999, **run
) -> Settings:
    options = {"dtype": "float32", "checkpoint_blocks": 0, "sheet_every": 0, "save_every": 200, "report_every": 25}
    warmup = min(100, iterations // 10)
    optimizer = Optimizer(lr=lr, betas=(0.9, 0.99), warmup=warmup, schedule="cosine", weight_decay=1e-3)
    return Settings(Run(iterations=iterations, batch=batch, **(options | run)), optimizer, average, group)


def full() -> TrellisRecipe:
    """The published setting: image-large, 256 objects an update, structure 6000 updates, SLAT 4000.

    Latents of the training assets come from the published encoders; the flows' weights are the published ones.
    """
    run = Run(batch=256, dtype="bfloat16", checkpoint_blocks=1, save_every=500, sheet_every=0)
    optimizer = Optimizer(betas=(0.9, 0.999), weight_decay=0.0, warmup=0, schedule="constant")
    structure = Settings(
        dataclasses.replace(run, iterations=6000), dataclasses.replace(optimizer, lr=4e-8), average=0.9999, group=1
    )
    slat = Settings(
        dataclasses.replace(run, iterations=4000), dataclasses.replace(optimizer, lr=1e-8), average=0.9999, group=1
    )
    return TrellisRecipe(official_config(distilled=True), Distill(structure, slat))


def tiny() -> TrellisRecipe:
    """`trellis-tiny`: everything from procedural objects, on one thread, its structure latents written down."""
    mdt = MdtOptions(norm="rms", norm_constant=1.0, vm_guidance=0.0, vd_guidance=0.0)
    return TrellisRecipe(
        tiny_config(),
        Distill(_settings(600, 5e-4, group=12, average=0.98), _settings(300, 5e-4, group=6, average=0.98), mdt=mdt),
        objects=3000, held_out=64,
        gaussian_decoder=_settings(600, 3e-3, group=1, average=0.99),
        flows=_settings(8000, 1.5e-3, group=8, average=0.995), slat_every=3,
    )  # fmt: skip


def nano() -> TrellisRecipe:
    """Every stage for a few updates on the smallest model."""
    short = {"group": 2, "save_every": 100, "report_every": 1}
    return TrellisRecipe(
        nano_config(), Distill(_settings(3, 1e-4, **short), _settings(3, 1e-4, **short)), objects=8, held_out=2,
        structure_vae=_settings(3, 1e-3, **short), gaussian_decoder=_settings(3, 1e-3, **short),
        flows=_settings(3, 1e-3, **short), render_pixels=24,
    )  # fmt: skip


RECIPES = {"full": full, "tiny": tiny, "nano": nano}


class TrellisRun:
    """A recipe's stages, each resumed where it was left, in one folder.

    Args:
        recipe: see `recipe.TrellisRecipe`.
        folder: ``objects.pt``, ``<stage>/`` with metrics and checkpoints, ``<stage>.pt`` with averaged weights.
    """

    def __init__(self, recipe: TrellisRecipe, folder: Path):
        if not recipe.objects:
            raise FlashWorldError(
                "This recipe distills weights that exist, on latents that exist; its stages are run one by one."
            )
        self.recipe, self.folder = recipe, Path(folder)
        config = recipe.config
        size = config.image_encoder.image_size
        self.data = ObjectData.prepare(recipe.objects, "train", config.resolution, size, self.folder / "objects.pt")
        mean, std = self.data.statistics()
        self.config = dataclasses.replace(config, slat_mean=mean, slat_std=std)

    def all_stages(self) -> None:
        """Run what is not finished, in order."""
        self.structure_decoder()
        self.flows()
        self.distilled("structure")
        self.gaussian_decoder()
        self.distilled("slat")

    def structure_vae(self) -> StructureVae:
        """The autoencoder of occupied voxels, its latents scaled to deviation 1."""
        module, settings = self._seeded(StructureVae), self.recipe.structure_vae
        stage = lambda player: StructureVaeStage(self.data, self.config, player, settings.group)  # noqa: E731
        return self._trained("structure_vae", module, settings, stage)

    def gaussian_decoder(self) -> GaussianDecoder:
        """Voxels' latents to Gaussians."""
        module = self._seeded(lambda config: GaussianDecoder(config.gaussian_decoder))
        nn.init.normal_(module.out_layer.weight, std=0.02)
        pixels = self.recipe.render_pixels
        stage = lambda player: GaussianDecoderStage(self.data, self.config, player, pixels)  # noqa: E731
        return self._trained("gaussian_decoder", module, self.recipe.gaussian_decoder, stage)

    def structure_latents(self, data: ObjectData) -> tuple[torch.Tensor, float, float]:
        """Latents of mean 0 and deviation 1 [N, C, r, r, r], and the mean and deviation they had."""
        encode = filled_latents
        if self.recipe.structure_vae is not None:
            encoder = self.structure_vae().encoder
            encode = lambda grid: encoder(grid)[0]  # noqa: E731
        own = self._encoded(encode, self.data)
        mean, std = (float(own.mean()), float(own.std())) if encode is filled_latents else (0.0, float(own.std()))
        latents = own if data is self.data else self._encoded(encode, data)
        return (latents - mean) / std, mean, std

    @torch.no_grad()
    def _encoded(self, encode, data: ObjectData) -> torch.Tensor:
        groups = [data.objects[i : i + 64] for i in range(0, len(data), 64)]
        return torch.cat([encode(occupancy(group, self.config.resolution)) for group in groups])

    def structure_decoder(self) -> StructureDecoder:
        """The decoder of latents of deviation 1."""
        _, mean, std = self.structure_latents(self.data)
        if self.recipe.structure_vae is None:
            return bit_decoder(self.config.structure_decoder, mean, std)
        decoder = self.structure_vae().decoder
        decoder.input_layer.weight.data.mul_(std)
        return decoder

    def flow_data(self) -> FlowData:
        return FlowData(self.data, self.structure_latents(self.data)[0], self.config)

    def flows(self) -> Flows:
        """The teacher: both flows and the image encoder."""
        module, settings = self._seeded(Flows), self.recipe.flows
        data = None if (self.folder / "flows.pt").is_file() else self.flow_data()
        stage = lambda player: FlowStage(  # noqa: E731
            data, player, settings.group, self.recipe.condition_dropout, self.recipe.slat_every
        )
        return self._trained("flows", module, settings, stage)

    def distilled(self, flow: str, distill: Distill | None = None, name: str = "") -> nn.Module:
        """A flow for few steps; another ``distill`` needs a ``name`` for its files."""
        distill = distill or self.recipe.distill
        name, settings = name or f"distill_{flow}", getattr(distill, flow)
        flows = self.flows().eval().requires_grad_(False)
        teacher = getattr(flows, f"{flow}_flow")
        data = None if (self.folder / f"{name}.pt").is_file() else self.flow_data()
        student = copy.deepcopy(teacher).requires_grad_(True)
        stage = lambda player: DistillationStage(  # noqa: E731
            flow, data, teacher, flows.image_encoder, player, distill, settings.group
        )
        return self._trained(name, student, settings, stage)

    def _seeded(self, make) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make(self.config)

    def _trained(self, name: str, module: nn.Module, settings: Settings, stage) -> nn.Module:
        """The averaged weights of a stage, trained to its end first where they are not there yet."""
        file = self.folder / f"{name}.pt"
        if not file.is_file():
            average = copy.deepcopy(module).requires_grad_(False).eval()
            player = Player(
                module, [(build_adamw(settings.optimizer, [module]), settings.optimizer)],
                clip=settings.optimizer.clip, average=average, average_decay=settings.average,
            )  # fmt: skip
            folder = self.folder / name
            folder.mkdir(parents=True, exist_ok=True)
            trainer = Trainer(
                stage(player), settings.run, checkpoints=RunFolder(folder, keep=1),
                metrics=MetricsLog(folder, tensorboard=False),
            )  # fmt: skip
            trainer.checkpoints.restore(trainer)
            if not trainer.train():
                raise FlashWorldError(f"The stage {name} was stopped; run it again to go on.")
            save_atomically(average.state_dict(), file)
        module.load_state_dict(load_checkpoint(file))
        return module.eval().requires_grad_(False)


def build_on_meta(recipe: TrellisRecipe) -> dict[str, nn.Module]:
    """Student, teacher and image encoder of a recipe without memory, as a distributed run begins."""
    with torch.device("meta"):
        student, teacher = Flows(recipe.config), Flows(recipe.config)
    return {"student": student, "teacher": teacher.requires_grad_(False)}
