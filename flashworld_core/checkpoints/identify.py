"""What a weight file is, from its tensors' names and shapes, and what to do with the wrong one.

One table: the first row whose marks a file has says what it is. A generator adds a row for its checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from ..errors import FlashWorldError
from .manifest import METADATA_KEY, WEIGHT_NAMES
from .open import INDEX_NAMES, SINGLE_NAMES, WeightFile, open_weights, unwrapped

Shapes = dict[str, tuple[int, ...]]

CHECKPOINT = "load FlashWorld's model.ckpt (imlixinyang/FlashWorld on Hugging Face) or a file converted from it"
_AS_VAE = f"give it as the VAE, and {CHECKPOINT} as the model"
_AS_TEXT = f"give it as the text encoder, and {CHECKPOINT} as the model"
_AS_FOLDER = (
    "for the text use Wan2.2-TI2V-5B-Diffusers' text_encoder folder or ComfyUI's umt5_xxl file, and for the model "
    f"{CHECKPOINT}"
)


@dataclasses.dataclass(frozen=True)
class FileKind:
    """What a weight file is.

    Attributes:
        name: short key, e.g. "flashworld", "wan transformer", "wan2.2 vae".
        description: completes "it looks like ...".
        advice: what to load instead where a model was wanted; empty for one.
        generator: the generator that loads it; empty: none does.
    """

    name: str
    description: str
    advice: str = CHECKPOINT
    generator: str = ""


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row of the table.

    Attributes:
        kind: what a file with these marks is; or ``kind(shapes)``, for what shapes decide (None: look further).
        marks: alternatives; a file has one if every piece of it occurs in a tensor's name, at its beginning where the
            piece begins with "^", at its end where it ends with "$".
        unless: pieces that must not occur.
    """

    kind: FileKind | Callable[[Shapes], FileKind | None]
    marks: tuple[tuple[str, ...], ...]
    unless: tuple[str, ...] = ()


def identify(weights: WeightFile) -> FileKind:
    """Say what a weight file looks like. Never fails: what no row knows is of kind "other"."""
    prefix, names = unwrapped(list(weights.entries))
    shapes = {name: weights.entries[prefix + name].shape for name in names}
    text = "".join(f"^{name}$" for name in names)
    for row in _TABLE:
        if any(all(piece in text for piece in mark) for mark in row.marks):
            if any(piece in text for piece in row.unless):
                continue
            kind = row.kind(shapes) if callable(row.kind) else row.kind
            if kind is not None:
                return kind
    some = ", ".join(list(weights.entries)[:3])
    return FileKind("other", f"another model (its tensors begin with {some})" if some else "a file without any tensors")


def wrong_file(weights: WeightFile, kind: FileKind, wanted: str = "a FlashWorld model") -> FlashWorldError:
    """Make the error that says in one sentence what the file looks like and what to load."""
    return FlashWorldError(f"{weights.path} is not {wanted}: it looks like {kind.description}; {kind.advice}.")


def generator_of(path: Path) -> str:
    """Name the generator of a model folder or file: by its manifest, else by its tensors.

    Raises:
        FlashWorldError: not a model of any generator (one sentence says what it looks like and what to load), or
            damaged.
    """
    if path.is_file() and path.name == "config.json":
        path = path.parent
    if path.is_file() and path.name in _PIPELINES:
        path = path.parent
    if path.is_dir() and (named := _named(path / "config.json") or _of_pipeline(path) or _of_single_files(path)):
        return named
    weights = open_model_weights(path)
    if (inside := weights.metadata.get(METADATA_KEY)) and (named := _generator(inside, str(weights.path))):
        return named
    kind = identify(weights)
    if not kind.generator:
        raise wrong_file(weights, kind)
    return kind.generator


def open_model_weights(path: Path) -> WeightFile:
    """Open the weights of a model: a file, or a folder that holds one (or shards) under a name of `WEIGHT_NAMES`.

    Raises:
        FlashWorldError: no weights there, or a diffusers pipeline.
    """
    if not path.is_dir():
        return open_weights(path)
    found = next((path / name for name in WEIGHT_NAMES if (path / name).is_file()), None)
    if found is None and (path / "model_index.json").is_file():
        raise FlashWorldError(
            f"{path} is a diffusers pipeline, not FlashWorld; give it as vae= and text_encoder= if it is "
            "Wan2.2-TI2V-5B-Diffusers, and FlashWorld's model.ckpt as the model."
        )
    return open_weights(found or path)  # else shards with an index, or a single file of another name


def _of_pipeline(folder: Path) -> str:
    """The generator whose pipeline file a folder holds; empty where there is none."""
    for name, (word, generator) in _PIPELINES.items():
        file = folder / name
        small = file.is_file() and file.stat().st_size <= _MAX_PIPELINE_BYTES
        if small and word in file.read_text(encoding="utf-8", errors="replace"):
            return generator
    return ""


def _of_single_files(folder: Path) -> str:
    """The generator of whose networks a folder holds each in a file of its own; empty where it holds a whole model."""
    if any((folder / name).exists() for name in (*WEIGHT_NAMES, *INDEX_NAMES, *SINGLE_NAMES)):
        return ""
    files = [file for file in sorted(folder.iterdir()) if file.suffix in (".safetensors", ".pt", ".pth")]
    if len(files) < 2:
        return ""
    for file in files[:_MOST_FILES]:
        try:
            kind = identify(open_weights(file))
        except FlashWorldError:
            continue  # another one will say what the folder is
        if kind.generator:
            return kind.generator
    return ""


def _named(manifest: Path) -> str:
    """The generator a folder's config.json names; empty where there is none or it speaks of other things."""
    if not manifest.is_file():
        return ""
    return _generator(manifest.read_text(encoding="utf-8", errors="replace"), str(manifest))


def _generator(text: str, source: str) -> str:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FlashWorldError(f"{source} is not JSON: {str(error)[:100]}.") from error
    return str(content.get("generator") or "") if isinstance(content, dict) else ""


def _flashworld(shapes: Shapes) -> FileKind | None:
    if not any(name.startswith("recon_decoder.") for name in shapes):
        return None
    patch, head = shapes["transformer.patch_embedding.weight"], shapes.get("recon_decoder.extra_conv_in.weight")
    latents = shapes.get("recon_decoder.post_quant_conv.weight")
    difference = "other parts"
    if len(patch) > 1 and head is not None and latents is not None and min(len(head), len(latents)) > 1:
        channels = 3 * latents[1] + 6 + head[1]
        if patch[1] == channels:
            return FileKind("flashworld", "a FlashWorld checkpoint", "", "flashworld")
        difference = f"{patch[1]} input channels where the distilled model has {channels}"
    return FileKind(
        "flashworld pre-trained",
        f"FlashWorld's pre-trained dual-mode checkpoint ({difference}), which cannot generate in a few steps",
    )


def _trellis_structure(shapes: Shapes) -> FileKind:
    last = next(shape for name, shape in shapes.items() if name.endswith("out_layer.2.weight"))
    if last[:1] == (1,):
        return FileKind("trellis", "TRELLIS's structure decoder", "", "trellis")
    return FileKind("trellis part", "TRELLIS's structure encoder, which only training uses", _TRELLIS_ADVICE)


def _wan_transformer(shapes: Shapes) -> FileKind | None:
    names = {name.removeprefix("transformer.") for name in shapes}
    ours = {"condition_embedder.time_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight"}
    if not (ours <= names or {"time_embedding.0.weight", "blocks.0.self_attn.q.weight"} <= names):
        return None
    patch = shapes.get("patch_embedding.weight") or shapes.get("transformer.patch_embedding.weight") or (0, 0)
    width, channels = (*patch, 0, 0)[:2]
    if channels > 3 * 48 + 6:
        return FileKind("flashworld part", "FlashWorld's transformer without its 3DGS decoder")
    known = {
        (3072, 48): "Wan2.2-TI2V-5B",
        (5120, 16): "Wan 14B text-to-video",
        (5120, 36): "Wan 14B image-to-video",
        (1536, 16): "Wan2.1 1.3B",
    }
    which = known.get((width, channels), f"a Wan model of width {width} with {channels} input channels")
    style = "diffusers' naming" if ours <= names else "Wan's own naming"
    return FileKind("wan transformer", f"the base video transformer {which} ({style}), not FlashWorld's")


# Files that describe a pipeline of several networks: a word that must occur in them, and the generator.
_PIPELINES = {"pipeline.json": ("Trellis", "trellis")}
_MAX_PIPELINE_BYTES = 1 << 20
_MOST_FILES = 64  # of a folder that are looked into
_TRELLIS_ADVICE = "give the folder of TRELLIS-image-large, or one of its flows with the other files beside it"

_BIAS = "^encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight$"
_LORA = ("lora_A", "lora_B", "lora_up", "lora_down", "lora.up", "lora.down", "lokr_", "hada_", "diff_b")
_CLIP = ("^text_model.", "^vision_model.", "^cond_stage_model.", "^visual.transformer.", "^transformer.text_model.")
# LoRAs first: their names contain the names of what they change. Whole checkpoints of image models before text
# encoders: they bring their own.
_TABLE = (
    _Row(FileKind("lora", "a LoRA, which is no model by itself"), tuple((mark,) for mark in _LORA)),
    _Row(
        FileKind("trellis", "TRELLIS's flow over voxels (SLAT)", "", "trellis"),
        (("t_embedder.mlp.0.weight$", "input_blocks.0.conv1.conv.weight$"),),
    ),
    _Row(
        FileKind("trellis", "TRELLIS's structure flow", "", "trellis"),
        (("t_embedder.mlp.0.weight$", "blocks.0.cross_attn.to_kv.weight$", "blocks.0.adaLN_modulation.1.weight$"),),
    ),
    _Row(
        FileKind("trellis", "TRELLIS's Gaussian decoder", "", "trellis"),
        (("offset_perturbation$", "blocks.0.attn.to_qkv.weight$"),),
    ),
    _Row(_trellis_structure, (("middle_block.0.conv1.weight$", "out_layer.2.weight$", "input_layer.weight$"),)),
    _Row(
        FileKind("trellis part", "TRELLIS's mesh decoder, which is not used here", _TRELLIS_ADVICE),
        (("blocks.0.attn.to_qkv.weight$", "upsample.0.out_layers.0.conv.weight$"),),
    ),
    _Row(
        FileKind("trellis part", "TRELLIS's radiance field decoder or latent encoder, not used here", _TRELLIS_ADVICE),
        (("blocks.0.attn.to_qkv.weight$", "^input_layer.weight$", "^out_layer.weight$"),),
    ),
    _Row(
        FileKind("vfusion3d", "a VFusion3D checkpoint (CC-BY-NC 4.0)", "", "vfusion3d"),
        (("synthesizer.decoder.net.0.weight$", "camera_embedder.mlp.0.weight$", "transformer.pos_embed$"),),
    ),
    _Row(_flashworld, (("^transformer.patch_embedding.weight$", "^recon_decoder."),)),
    _Row(
        FileKind("flashworld part", "the 3DGS decoder of a FlashWorld checkpoint without its transformer"),
        (("^recon_decoder.",), ("^gs_head.gs_proj.weight$",)),
    ),
    _Row(_wan_transformer, (("time_embed", "blocks.0."),)),
    _Row(
        FileKind("wan2.2 vae", "the Wan 2.2 VAE (single-file naming)", _AS_VAE),
        (("^encoder.downsamples.0.downsamples.",), ("^decoder.upsamples.0.upsamples.",)),
    ),
    _Row(
        FileKind("wan2.1 vae", "the Wan 2.1 VAE, which FlashWorld does not use"),
        (
            ("^encoder.downsamples.0.residual.",),
            ("^decoder.upsamples.0.residual.",),
            ("^encoder.down_blocks.0.norm1.gamma$",),
        ),
    ),
    _Row(
        FileKind("wan2.2 vae", "the Wan 2.2 VAE (diffusers' naming)", _AS_VAE),
        (("^encoder.down_blocks.0.resnets.0.norm1.gamma$",),),
    ),
    _Row(
        FileKind("other vae", "the VAE of another model"),
        (("^encoder.down.",), ("^encoder.down_blocks.",), ("^decoder.up_blocks.",), ("^decoder.up.",)),
    ),
    _Row(
        FileKind("other transformer", "a HunyuanVideo transformer"),
        (("double_blocks.0.", "txt_in.individual_token_refiner"),),
    ),
    _Row(FileKind("other transformer", "a Flux transformer"), (("double_blocks.0.",),)),
    _Row(FileKind("other transformer", "a Stable Diffusion 3 checkpoint"), (("joint_blocks.0.",),)),
    _Row(FileKind("sdxl", "a Stable Diffusion XL checkpoint"), (("input_blocks.0.", "conditioner.embedders."),)),
    _Row(FileKind("sd", "a Stable Diffusion checkpoint"), (("input_blocks.0.",),)),
    _Row(
        FileKind("sd", "a Stable Diffusion U-Net (diffusers' naming)"),
        (("down_blocks.0.resnets.0.", "mid_block."),),
    ),
    _Row(
        FileKind("other transformer", "another diffusion transformer (diffusers' naming)"),
        (("transformer_blocks.0.",),),
    ),
    _Row(
        FileKind("t5", "a T5 text encoder, which FlashWorld does not use (it wants UMT5-XXL)"),
        ((_BIAS.format(0), "^encoder.block.1.layer.0.SelfAttention.q.weight$"),),
        unless=(_BIAS.format(1),),
    ),
    _Row(FileKind("umt5", "a UMT5 text encoder", _AS_TEXT), ((_BIAS.format(0),),)),
    _Row(
        FileKind("umt5 original", "a UMT5 text encoder in Wan's own naming", _AS_FOLDER),
        (("^token_embedding.weight$", "^blocks.0.attn.q.weight$"),),
    ),
    _Row(FileKind("clip", "a CLIP encoder"), tuple((mark,) for mark in _CLIP)),
    _Row(FileKind("language model", "a language model"), (("layers.0.self_attn.q_proj.weight",),)),
)
