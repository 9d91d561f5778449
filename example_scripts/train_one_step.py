"""One optimizer step: fit Gaussians to images of a procedural world. Run: python example_scripts/train_one_step.py"""

import dataclasses

import torch

from flashworld_core.datasets.toyworld import ToyWorld
from flashworld_core.evaluation.metrics import psnr_db
from flashworld_core.generators import load_model
from flashworld_core.generators.base import Request, ViewImage
from flashworld_core.rendering.render import render
from flashworld_core.training.objectives.rendering import rendering_loss

model = load_model("tiny")
sample = ToyWorld(8, 96, 64).sample(3, "train")
truth = sample.images.permute(0, 2, 3, 1)
made = model.generate(Request(sample.cameras, (ViewImage(truth[0]),), sample.prompt, seed=3))

scene = made.gaussians
colors = scene.sh.clone().requires_grad_()
optimizer = torch.optim.Adam([colors], lr=0.05)
for step in range(2):
    images = render(dataclasses.replace(scene, sh=colors), made.cameras).rgb
    loss = rendering_loss(images, truth)
    print(f"step {step}: loss {loss.item():.4f}, {psnr_db(images.detach(), truth).mean():.2f} dB")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
