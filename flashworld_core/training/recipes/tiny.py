"""The embedded model, `flashworld-tiny`: vocabulary, tokenizer, text encoder, and its stages from files to files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...errors import FlashWorldError
from ...generators.flashworld.config import FlashWorldConfig
from ...generators.flashworld.export import save_folder
from ...generators.flashworld.presets import TEXT_DIM, tiny_config
from ...models.wan_vae import FrameEncoder
from ..objectives.few_step import Recipe, Student, train_generator
from ..objectives.vae import train_vae
from ..state import load_checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, UMT5Config


def vae(out: Path, minutes: float, seed: int, device: str, workers: int, resume: bool) -> None:
    """Train the autoencoder of the tiny configuration into ``out/vae.pt``."""
    train_vae(tiny_config(), out, minutes=minutes, seed=seed, device=device, workers=workers, resume=resume)


def load_vae(out: Path) -> tuple[FlashWorldConfig, FrameEncoder, dict]:
    """(config with the latents' statistics, encoder, state dict of the decoder) from ``out/vae.pt``."""
    path = out / "vae.pt"
    if not path.is_file():
        raise FlashWorldError(f"{path} is missing; run the `vae` stage first.")
    state = load_checkpoint(path)
    config = tiny_config(state["vae_config"]["latents_mean"], state["vae_config"]["latents_std"])
    encoder = FrameEncoder(config.vae)
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
    from ...evaluation.harness import evaluate as judge
    from ...generators import load_model

    return judge(load_model(folder), scenes, text_only=text_only)


def example(folder: Path, seed: int = 109, image_index: int = 4) -> None:
    """Write the demo's example: a "test" scene's picture at 8 times the model's size, its path and its prompt."""
    from ...datasets.toyworld.paths import sample_cameras
    from ...datasets.toyworld.raycast import render_scene
    from ...datasets.toyworld.scene import sample_scene
    from ...formats.cameras import write_cameras
    from ...generators.flashworld.presets import HEIGHT, VIEWS, WIDTH
    from ...media.export import save_json, save_png

    scene = sample_scene(seed, "test")
    cameras = sample_cameras(scene, VIEWS, WIDTH, HEIGHT)
    image, _ = render_scene(scene, cameras[image_index].resized(8 * WIDTH, 8 * HEIGHT))
    save_png(folder / "picture.png", image[0].permute(1, 2, 0))
    write_cameras(folder / "cameras.json", cameras, "flashworld")
    facts = {"seed": seed, "split": "test", "image_index": image_index, "novel_views": 6, "prompt": scene.prompt}
    save_json(folder / "example.json", facts)


def tiny_vocabulary() -> list[str]:
    """Every word a ToyWorld prompt can hold."""
    from ...datasets.toyworld import scene, solids, textures

    words = [*scene.COLORS, *scene.GROUNDS, *scene.SKIES, *scene.WALLS, *scene.SIZES, *solids.KINDS, *textures.KINDS]
    return [*words, "a an and on in the with room floor walls ground sky under ,"]


# T5's own special tokens at T5's own ids.
PAD, EOS, UNK = "<pad>", "</s>", "<unk>"


def build_tiny_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with a fixed vocabulary; nothing is trained or downloaded.

    Text is brought to NFKC and lower case and split at white space and around punctuation; words outside the
    vocabulary become ``<unk>``; every sequence ends with ``</s>``. Save it with
    ``tokenizer.backend_tokenizer.save(path)`` or ``tokenizer.save_pretrained(folder)``.

    Args:
        words: words or whole sentences; each is split like a prompt. Their order does not matter. Put the prompt
            prefix ("[Static]") among them.

    Returns:
        A transformers tokenizer with ids 0 ``<pad>``, 1 ``</s>``, 2 ``<unk>``, then the words in sorted order.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    vocabulary = {word for text in words for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))} - {
        PAD,
        EOS,
        UNK,
    }
    if not vocabulary:
        raise FlashWorldError("No words given.")
    ids = {word: i for i, word in enumerate([PAD, EOS, UNK, *sorted(vocabulary)])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, ids[EOS])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNK)


def tiny_umt5_config(
    vocab_size: int, *, d_model: int = 64, layers: int = 2, heads: int = 4, d_ff: int = 128
) -> UMT5Config:
    """Sizes of a small UMT5 encoder; no dropout.

    Args:
        vocab_size: ``len(tokenizer)``.
        d_model: width of the text embedding (the transformer's ``text_dim``).
        layers: number of blocks.
        heads: attention heads; must divide ``d_model``.
        d_ff: width of the gated feed-forward layers.
    """
    from transformers import UMT5Config

    if d_model % heads:
        raise FlashWorldError(f"d_model {d_model} must be a multiple of heads {heads}.")
    return UMT5Config(
        vocab_size=vocab_size,
        d_model=d_model,
        d_kv=d_model // heads,
        d_ff=d_ff,
        num_layers=layers,
        num_heads=heads,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
