"""What a stage starts from: a model folder, read into `Networks`; and new ones with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from ...errors import FlashWorldError
from ...generators.flashworld.config import FlashWorldConfig
from ...generators.flashworld.export import save_folder
from ...generators.flashworld.pipeline import FlashWorldModel
from ...generators.flashworld.presets import nano_config, official_config, tiny_config
from ..build import DTYPES, PromptEmbedder, linear_encoder, own_text
from ..config import Recipe, Run
from .networks import Networks
from .student import Student

PRESETS = {"nano": nano_config, "tiny": tiny_config, "full": official_config}
_PCA_SCENES = 48


@dataclasses.dataclass
class OwnText:
    """A text encoder that belongs to the recipe: transformers' module and tokenizer."""

    tokenizer: object
    encoder: nn.Module


def write_new_start(folder: Path, recipe: Recipe, data) -> None:
    """A model folder with random weights, for recipes that begin from nothing.

    The VAE's encoder is the principal components of the data's own pixel blocks (`linear_encoder`).

    Args:
        data: `networks.Data`; some of its images make the encoder.

    Raises:
        FlashWorldError: a recipe that names no preset.
    """
    if recipe.model not in PRESETS or recipe.model == "full":
        raise FlashWorldError(
            f"The recipe's model {recipe.model!r} cannot begin from random weights: set start to a model folder."
        )
    scenes = [data.sample("multiview", i, 0) for i in range(_PCA_SCENES)]
    images = torch.cat([scene.images for scene in scenes]).permute(0, 3, 1, 2) * 2 - 1
    config, encoder = linear_encoder(PRESETS[recipe.model](), images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.pretrain.run.seed)
        student = Student(config)
        # So that features reach the Gaussians from the first update on.
        nn.init.normal_(student.recon_decoder.extra_conv_in.weight, std=0.05)
        nn.init.normal_(student.recon_decoder.gs_head.gs_proj.weight, std=0.01)
    tokenizer, text_encoder = own_text(config, recipe.pretrain.run.seed)
    save_folder(
        folder, config, transformer=student.transformer, recon_decoder=student.recon_decoder, vae=encoder,
        text_encoder=text_encoder, tokenizer=tokenizer, license=recipe.license, compute_dtype="float32",
    )  # fmt: skip


def read_model(path: str | Path, device: torch.device | str = "cpu") -> FlashWorldModel:
    """The model in a folder or file, in float32.

    Raises:
        FlashWorldError: nothing there, or no FlashWorld model.
    """
    from ...generators import load_model

    path = Path(path).expanduser()
    if not path.exists():
        raise FlashWorldError(f"There is no model to start from at {path}.")
    model = load_model(path, dtype=torch.float32, device=device)
    if not isinstance(model, FlashWorldModel):
        raise FlashWorldError(f"{path} is a model of another kind ({model.info.name}); training is FlashWorld's.")
    return model


def read_own_text(folder: str | Path, config: FlashWorldConfig) -> OwnText:
    """The text encoder of a model folder, to be trained.

    Raises:
        FlashWorldError: a folder without one.
    """
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

    from ..recipes.tiny import EOS, PAD, UNK

    folder = Path(folder) / "text_encoder"
    if not (folder / "tokenizer.json").is_file():
        raise FlashWorldError(
            f"{folder.parent} has no text encoder of its own to train; set pretrain.train_text=false."
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token=PAD, eos_token=EOS, unk_token=UNK
    )
    return OwnText(tokenizer, UMT5EncoderModel.from_pretrained(folder, torch_dtype=torch.float32))


def networks_from(
    model: FlashWorldModel, run: Run, device: torch.device, own: OwnText | None = None, cache=None
) -> Networks:
    """`Networks` with a model's weights, the student's trainable.

    Args:
        own: a text encoder that is trained along; None embeds with the model's, frozen.
        cache: `datasets.text_cache.TextCache` in place of a text encoder.

    Raises:
        FlashWorldError: no text encoder and no cache.
    """
    student = Student(model.config, None if own is None else own.encoder)
    student.transformer.load_state_dict(model.transformer.state_dict())
    student.recon_decoder.load_state_dict(model.decoder.state_dict())
    if own is not None:
        embed = PromptEmbedder(model.config, own.tokenizer, own.encoder, trained=True)
    elif cache is not None or model.text is not None:
        encode = model.text.encode if cache is None else cache

        def embed(prompts):
            return encode(list(prompts)).float().to(device)
    else:
        raise FlashWorldError(
            "The model to start from has no text encoder: make a text cache with the command embed and name it in "
            "text_cache."
        )
    return Networks(
        model.config, student.to(device), model.encoder.to(device).requires_grad_(False).eval(), embed, device,
        DTYPES[run.dtype], run.recompute_views,
    )  # fmt: skip
