"""The autoencoder of the tiny model: a per-frame Wan 2.2 VAE of small width, trained on ToyWorld images.

Its encoder becomes the generator's frozen image encoder; its decoder initializes the Gaussian decoder,
as the official model's was initialized from Wan's.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from ...datasets.toyworld.stream import ImageStream, stream
from ...models.wan_vae import FrameDecoder, FrameEncoder
from ...text import get_logger
from ..state import Journal, WeightAverage, load_checkpoint, save_atomically, warmup_cosine

log = get_logger(__name__)


def train_vae(
    config, out: Path, *, minutes: float, batch: int = 8, lr: float = 2e-3, kl_weight: float = 2e-5, seed: int = 0,
    device: str = "cpu", workers: int = 1, resume: bool = False,
) -> Path:  # fmt: skip
    """Train for ``minutes`` of wall time; writes ``out/vae.pt`` and the latents' mean and std in it.

    With ``resume`` the weights of ``out/vae.pt`` are the start.

    Loss: L1 + MSE of the reconstruction + ``kl_weight`` * KL(posterior || N(0, 1)).
    """
    torch.manual_seed(seed)
    encoder, decoder = FrameEncoder(config.vae).to(device), FrameDecoder(config.vae).to(device)
    path, done = out / "vae.pt", 0
    if resume:
        state = load_checkpoint(path)
        encoder.load_state_dict(state["encoder"])
        decoder.load_state_dict(state["decoder"])
        done = state["steps"]
    with torch.no_grad():
        # Start nearly without noise: a unit-variance posterior would drown the picture for thousands of steps.
        encoder.quant_conv.weight[config.latent_channels :].zero_()
        encoder.quant_conv.bias[config.latent_channels :].fill_(-5.0)
    both = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    average = WeightAverage(both, 0.995)
    optimizer = torch.optim.AdamW(both.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=1e-4)
    journal = Journal(out / "vae.jsonl", every=50)
    images = stream(ImageStream(config, batch, first_seed=seed * 1_000_000_000 + batch * done), workers)
    started, step = time.monotonic(), 0
    while (elapsed := (time.monotonic() - started) / 60) < minutes:
        # The schedule follows the clock, so that the learning rate is at its floor when time is up.
        factor = min(1.0, (step + 1) / 50) * warmup_cosine(int(1000 * elapsed / minutes), 1000, 0)
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        x = next(images).to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16):
            mean, logvar = encoder.moments(x).float().chunk(2, 1)
            logvar = logvar.clamp(-30, 20)
            z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
            y = decoder(z).float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        mse = F.mse_loss(y, x)
        loss = F.l1_loss(y, x) + mse + kl_weight * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        average.update(both)
        step += 1
        journal.add(loss=loss.item(), psnr_db=-10 * torch.log10(mse.detach() / 4).item(), kl=kl.item())
        journal.report(step)

    kept = average.average
    with torch.no_grad():
        # The noise served to keep latents smooth. Generation draws from the posterior too, where it would only cost
        # sharpness: from here on the posterior is all but its mean.
        kept["encoder"].quant_conv.weight[config.latent_channels :].zero_()
        kept["encoder"].quant_conv.bias[config.latent_channels :].fill_(-12.0)
        moments = torch.cat([kept["encoder"].moments(next(images).to(device)) for _ in range(20)]).float()
    mean = moments.chunk(2, 1)[0]
    vae = dataclasses.asdict(config.vae) | {
        "latents_mean": mean.mean((0, 2, 3)).tolist(),
        "latents_std": mean.std((0, 2, 3)).tolist(),
    }
    save_atomically(
        {
            "encoder": kept["encoder"].state_dict(),
            "decoder": kept["decoder"].state_dict(),
            "vae_config": vae,
            "steps": done + step,
        },
        path,
    )
    return path
