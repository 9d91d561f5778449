"""The stages of making `flashworld-tiny`, each from files to files."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import FlashWorldError
from ..generators.flashworld.config import FlashWorldConfig
from ..generators.flashworld.encoder import FrameEncoder
from ..generators.flashworld.save import save_folder
from .loops import load_checkpoint
from .tiny import TEXT_DIM, tiny_config, tiny_vocabulary
from .tiny_text import build_tiny_tokenizer, tiny_umt5_config
from .train_generator import Recipe, Student, train_generator
from .train_vae import train_vae


def vae(out: Path, minutes: float, seed: int, device: str, workers: int, resume: bool) -> None:
    """Train the autoencoder of the tiny configuration into ``out/vae.pt``."""
    train_vae(tiny_config(), out, minutes=minutes, seed=seed, device=device, workers=workers, resume=resume)


def load_vae(out: Path) -> tuple[FlashWorldConfig, FrameEncoder, dict]:
    """(config with the latents' statistics, encoder, state dict of the decoder) from ``out/vae.pt``."""
    path = out / "vae.pt"
    if not path.is_file():
        raise FlashWorldError(f"training: {path} is missing; run the `vae` stage first.")
    state = load_checkpoint(path)
    config = tiny_config(state["vae_config"]["latents_mean"], state["vae_config"]["latents_std"])
    encoder = FrameEncoder(config)
    encoder.load_state_dict(state["encoder"])
    return config, encoder, state["decoder"]


def build_student(config: FlashWorldConfig):
    """(student with random weights, tokenizer)."""
    from transformers import UMT5EncoderModel

    tokenizer = build_tiny_tokenizer([config.prompt_prefix, *tiny_vocabulary()])
    text_encoder = UMT5EncoderModel(tiny_umt5_config(len(tokenizer), d_model=TEXT_DIM))
    return Student(config, text_encoder), tokenizer


def generator(out: Path, recipe: Recipe, resume: bool) -> None:
    """Train the generator on ``out/vae.pt`` into ``out/generator.pt``."""
    config, encoder, vae_decoder = load_vae(out)
    torch.manual_seed(recipe.seed)
    student, tokenizer = build_student(config)
    student.start_from_vae(vae_decoder)
    train_generator(config, encoder, student, tokenizer, recipe, out, out / "generator.pt" if resume else None)


def export(out: Path, folder: Path) -> None:
    """Write the averaged weights of ``out/generator.pt`` as a model folder in half precision."""
    config, encoder, _ = load_vae(out)
    state = load_checkpoint(out / "generator.pt")
    student, tokenizer = build_student(config)
    student.load_state_dict(state["average"])
    save_folder(
        folder,
        config,
        transformer=student.transformer,
        recon_decoder=student.recon_decoder,
        vae=encoder,
        text_encoder=student.text_encoder,
        tokenizer=tokenizer,
        dtype=torch.float16,
        compute_dtype="float32",
        license="Apache-2.0 (trained by this project on its own procedural scenes)",
        notes={"updates": state["updates"], "scenes": state["scenes"], "recipe": state["recipe"]},
    )


def evaluate(folder: Path, scenes: int, text_only: bool = False) -> dict:
    """Held-out figures of a model folder."""
    from ..generators.base import load_model
    from .evaluate import evaluate as judge

    return judge(load_model(folder), scenes, text_only=text_only)


def example(folder: Path, seed: int = 109, image_index: int = 4) -> None:
    """Write the demo's example: a "test" scene's picture at 8 times the model's size, its path and its prompt."""
    from ..media import save_json, save_png
    from ..trajectories.files import write_cameras
    from .tiny import HEIGHT, VIEWS, WIDTH
    from .toyworld import render_scene, sample_cameras, sample_scene

    scene = sample_scene(seed, "test")
    cameras = sample_cameras(scene, VIEWS, WIDTH, HEIGHT)
    image, _ = render_scene(scene, cameras[image_index].resized(8 * WIDTH, 8 * HEIGHT))
    save_png(folder / "picture.png", image[0].permute(1, 2, 0))
    write_cameras(folder / "cameras.json", cameras, "flashworld")
    facts = {"seed": seed, "split": "test", "image_index": image_index, "novel_views": 6, "prompt": scene.prompt}
    save_json(folder / "example.json", facts)
