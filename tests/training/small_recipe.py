"""A student of the smallest sizes the classes take, for tests of the stages."""

import dataclasses
import functools

import torch

from flashworld_core.generators.flashworld.presets import nano_config
from flashworld_core.training.build import PromptEmbedder, build_networks, linear_encoder, own_text
from flashworld_core.training.config import Distillation, Optimizer, Pretraining, Recipe, Run
from flashworld_core.training.flashworld.toyworld import ToyWorldData

RUN = Run(iterations=40, batch=1, dtype="float32", save_every=10, report_every=1, sheet_every=0)
FAST = Optimizer(lr=1e-3, warmup=1, schedule="constant")


def micro_config():
    """`nano`, smaller still: 3 views of 16x24, one block of width 48."""
    nano = nano_config()
    return dataclasses.replace(
        nano,
        views=3,
        height=16,
        width=24,
        feature_channels=8,
        text_length=16,
        transformer=dataclasses.replace(
            nano.transformer, num_attention_heads=2, attention_head_dim=24, ffn_dim=48, num_layers=2, text_dim=16
        ),
        vae=dataclasses.replace(nano.vae, base_dim=16, decoder_base_dim=8),
    )


@functools.cache
def _encoder():
    data = ToyWorldData(micro_config(), simple=True)
    images = torch.cat([data.sample("multiview", 900 + i, 0).images for i in range(6)]).permute(0, 3, 1, 2) * 2 - 1
    config, encoder = linear_encoder(micro_config(), images)
    return config, encoder.state_dict()


def micro_recipe(**distill):
    return Recipe(
        name="micro",
        pretrain=Pretraining(run=RUN, optimizer=FAST, rendering="rmse", input_views=2, novel_views=1),
        distill=Distillation(
            run=RUN, student=FAST, critic=FAST, head=FAST, head_width=16, teacher_guidance=1.0, **distill
        ),
    )


def micro_networks(seed=0, dtype="float32", recompute=True):
    """(networks, data): random weights whose features reach the Gaussians."""
    from flashworld_core.models.wan_vae import FrameEncoder

    config, state = _encoder()
    encoder = FrameEncoder(config.vae)
    encoder.load_state_dict(state)
    tokenizer, text_encoder = own_text(config)
    run = dataclasses.replace(RUN, dtype=dtype, recompute_views=recompute)
    embed = PromptEmbedder(config, tokenizer, text_encoder, trained=False)
    networks = build_networks(config, encoder, embed, run, seed=seed, text_encoder=text_encoder)
    decoder = networks.student.recon_decoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.nn.init.normal_(decoder.extra_conv_in.weight, std=0.05)
        torch.nn.init.normal_(decoder.gs_head.gs_proj.weight, std=0.02)
    return networks, ToyWorldData(config, simple=True)
