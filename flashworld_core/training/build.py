"""From a recipe to what the trainer runs: networks, data, players, stages."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..generators.flashworld.config import FlashWorldConfig
from ..models.wan_vae import FrameEncoder
from .config import Recipe, Run
from .flashworld.critic import Critic
from .flashworld.distillation import CrossModeDistillation
from .flashworld.networks import Data, Networks
from .flashworld.pretraining import DualModePretraining, trained_modules
from .flashworld.student import Student
from .optim import build_adamw
from .trainer import Player

Shard = Callable[..., None]
DTYPES = {"float32": None, "bfloat16": torch.bfloat16}


class PromptEmbedder:
    """The text side of a recipe that trains its own text encoder: prompts to zero-padded rows."""

    def __init__(self, config: FlashWorldConfig, tokenizer, encoder: nn.Module, *, trained: bool):
        self.config, self.tokenizer, self.encoder, self.trained = config, tokenizer, encoder, trained

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """[B, L, D], with a graph only where the encoder is being trained."""
        ids = self.tokenizer(
            [self.config.prompt_prefix + prompt for prompt in prompts], truncation=True,
            max_length=self.config.text_length, padding="max_length", return_tensors="pt",
        )  # fmt: skip
        device = next(self.encoder.parameters()).device
        ids = {name: ids[name].to(device) for name in ("input_ids", "attention_mask")}
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            return self.encoder(**ids).last_hidden_state * ids["attention_mask"][..., None]


def own_text(config: FlashWorldConfig, seed: int = 0):
    """(tokenizer, UMT5 encoder with random weights) for ToyWorld's words."""
    from transformers import UMT5EncoderModel

    from .recipes.tiny import build_tiny_tokenizer, tiny_umt5_config, tiny_vocabulary

    tokenizer = build_tiny_tokenizer([config.prompt_prefix, *tiny_vocabulary()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = UMT5EncoderModel(tiny_umt5_config(len(tokenizer), d_model=config.transformer.text_dim))
    return tokenizer, encoder


def build_networks(
    config: FlashWorldConfig, encoder: FrameEncoder, embed: Callable[[Sequence[str]], Tensor], run: Run, *, seed: int,
    text_encoder: nn.Module | None = None, device: torch.device | str = "cpu",
) -> Networks:  # fmt: skip
    """Networks with random weights that every process of a run draws alike."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(config, text_encoder)
    return Networks(
        config, student.to(device), encoder.to(device).requires_grad_(False).eval(), embed, device,
        DTYPES[run.dtype], run.recompute_views,
    )  # fmt: skip


def pretraining_stage(
    networks: Networks, data: Data, recipe: Recipe, shard: Shard = lambda module, trained=True: None
) -> DualModePretraining:
    """Stage 1 with its player.

    Args:
        shard: called with each network (`distributed.Sharding`), before its optimizer is built.
    """
    config = recipe.pretrain
    modules = trained_modules(networks, config)
    average = _average(modules)
    for module in modules:
        shard(module)
    for module in average:
        shard(module, trained=False)
    player = Player(
        modules, [(build_adamw(config.optimizer, [modules]), config.optimizer)], clip=config.optimizer.clip,
        average=average, average_decay=config.average,
    )  # fmt: skip
    there = {source.kind for source in recipe.data}
    kinds = {name: weight for name, weight in dataclasses.asdict(config.kinds).items() if name in there}
    return DualModePretraining(networks, data, config, player, kinds)


def distillation_stage(
    networks: Networks, data: Data, recipe: Recipe, teacher: nn.Module | None = None,
    shard: Shard = lambda module, trained=True: None,
) -> CrossModeDistillation:  # fmt: skip
    """Stage 2 with its players.

    Args:
        networks: with the weights stage 1 ended at.
        teacher: the frozen transformer; None copies the student's. The fake score starts as a copy of it.
        shard: as in `pretraining_stage`.
    """
    config = recipe.distill
    teacher = copy.deepcopy(networks.student.transformer) if teacher is None else teacher
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        critic = Critic(networks.config, config.head_width).to(networks.device)
    critic.transformer.load_state_dict(teacher.state_dict())
    if networks.student.text_encoder is not None:
        networks.student.text_encoder.requires_grad_(False)
    trained = nn.ModuleList([networks.student.transformer, networks.student.recon_decoder])
    average = _average(trained)
    for module in (*trained, critic):
        shard(module)
    for module in (*average, teacher):
        shard(module, trained=False)
    student_player = Player(
        trained, [(build_adamw(config.student, [trained]), config.student)], clip=config.student.clip,
        average=average, average_decay=config.average,
    )  # fmt: skip
    critic_player = Player(
        critic,
        [
            (build_adamw(config.critic, [critic.transformer]), config.critic),
            (build_adamw(config.head, [critic.head]), config.head),
        ],
        clip=config.critic.clip,
    )
    return CrossModeDistillation(networks, teacher, data, config, student_player, critic_player)


def _average(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).requires_grad_(False).eval()


def linear_encoder(config: FlashWorldConfig, images: Tensor) -> tuple[FlashWorldConfig, FrameEncoder]:
    """An encoder that is the principal components of ``images`` [N, 3, H, W] in [-1, 1], and the config it makes.

    The latents' standard deviations of the config are those of `linear_encoder.partly_whitened`.
    """
    from .flashworld.linear_encoder import partly_whitened, principal_components, start_linear

    components = principal_components(images, config.spatial_factor, config.latent_channels)
    vae = dataclasses.replace(
        config.vae, latents_mean=(0.0,) * config.latent_channels,
        latents_std=tuple(partly_whitened(components.deviation)),
    )  # fmt: skip
    encoder = FrameEncoder(vae)
    start_linear(encoder, vae, components)
    return dataclasses.replace(config, vae=vae), encoder
