"""Recipes: everything that decides how a run goes, as typed dataclasses; read from YAML or JSON, changed by name."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..errors import FlashWorldError


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """AdamW of one player, and its learning rate over iterations.

    Attributes:
        lr: peak learning rate.
        betas: Adam's.
        weight_decay: on matrices and kernels; one-dimensional parameters are not decayed.
        clip: largest norm of the gradient, 0 for no limit.
        warmup: iterations of linear rise.
        schedule: "linear" falls to 0 from ``decay_from`` to ``decay_to``; "cosine" falls to ``floor`` x lr by
            ``decay_to`` and stays there; "constant".
        decay_from, decay_to: iterations; ``decay_to`` 0 stands for the stage's last.
        floor: share of the peak the cosine ends at.
    """

    lr: float = 2e-5
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    clip: float = 1.0
    warmup: int = 1000
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    decay_from: int = 0
    decay_to: int = 0
    floor: float = 0.02


@dataclasses.dataclass(frozen=True)
class Run:
    """What both stages need to run.

    Attributes:
        iterations: the stage's length; only they steer, the clock never does.
        batch: samples of an update over all processes.
        together: samples of a process that go through the networks at once; the others follow, gradients add up.
        seed: of every random number.
        minutes: stop (and save) after this long; 0 for no limit.
        save_every, keep_every: iterations between checkpoints, and between those that are kept for good (0: none).
        report_every, sheet_every: iterations between lines of ``metrics.jsonl``, and between picture sheets (0: none).
        dtype: the networks' autocast, "float32" or "bfloat16"; losses and rendering are float32 anyway.
        checkpoint_blocks: recompute every k-th transformer block in backward; 0 keeps all activations.
        recompute_views: recompute decoder, renderer and encoder view by view in backward.
        shard_size: processes that share one copy of the networks; 0 for all.
        threads: CPU threads of a process; 0 leaves torch's choice.
        workers: processes that load samples ahead, for each process of the run; 0 loads them when they are needed.
    """

    iterations: int = 20_000
    batch: int = 64
    together: int = 1
    seed: int = 0
    minutes: float = 0.0
    save_every: int = 500
    keep_every: int = 0
    report_every: int = 50
    sheet_every: int = 1000
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    checkpoint_blocks: int = 1
    recompute_views: bool = True
    shard_size: int = 0
    threads: int = 0
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class Conditioning:
    """Weights of what a sample is given: its picture and prompt, one of them, or nothing (for guidance)."""

    image_and_text: float = 0.6
    image: float = 0.15
    text: float = 0.2
    nothing: float = 0.05


@dataclasses.dataclass(frozen=True)
class ClipKinds:
    """Weights of the kinds of data in stage 1; kinds the recipe has no source of do not count."""

    multiview: float = 2.0
    video: float = 1.0
    image: float = 0.5


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """Stage 1: both modes from one pass (FlashWorld, Eq. 4 and 5).

    Attributes:
        rendering_weight: of Eq. 5 beside Eq. 4's 1.
        rendering_share: share of the updates that have Eq. 5. The others train the multi-view mode alone, which costs a
            third; stage 2's teacher is nothing else.
        rendering: "mse" in [-1, 1] as in the paper; "rmse" in [0, 1], whose gradient does not fade with the error.
        input_views, novel_views: views Eq. 5 is rendered at, per sample.
        random_background: one color a view; white otherwise.
        full_noise: share of the samples at noise level 1.
        student_levels: share of the samples at the student's own noise levels, where its 3D mode will work.
        feedback: share of the updates whose samples get the feedback of a first pass without gradient.
        detach_latents: the decoder takes the multi-view latents as a constant.
        gradient_weight, color_weight, distance_weight, own_view_weight, redundancy_weight: further terms of the 3D
            mode, 0 in the paper; see `objectives.rendering`.
        average: decay of the running average of the weights.
        train_text: train the text encoder along; possible only where the recipe has one of its own.
    """

    run: Run = Run()
    optimizer: Optimizer = Optimizer(warmup=1000, decay_from=10_000)
    kinds: ClipKinds = ClipKinds()
    conditioning: Conditioning = Conditioning()
    rendering_weight: float = 1.0
    rendering_share: float = 1.0
    rendering: Literal["mse", "rmse"] = "mse"
    input_views: int = 4
    novel_views: int = 4
    random_background: bool = True
    full_noise: float = 0.1
    student_levels: float = 0.0
    feedback: float = 0.5
    detach_latents: bool = True
    gradient_weight: float = 0.0
    color_weight: float = 0.0
    distance_weight: float = 0.0
    own_view_weight: float = 0.0
    redundancy_weight: float = 0.0
    average: float = 0.9999
    train_text: bool = False


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Weights of what stage 2 scores; the paper's are 1 : 3 : 1."""

    multiview: float = 1.0
    input_views: float = 3.0
    novel_views: float = 1.0


@dataclasses.dataclass(frozen=True)
class DataKinds:
    """Weights of multi-view and out-of-distribution data in stage 2; the paper's are 2 : 1."""

    multiview: float = 2.0
    ood: float = 1.0


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Stage 2: distribution matching, the adversarial losses and cross-mode consistency.

    Attributes:
        run: iterations count critic updates; the student is updated in every ``critic_updates``-th.
        student, critic, head: their optimizers; the head of the critic has its own learning rate.
        warm_critic: iterations of critic updates alone at the start.
        teacher_guidance: weight of classifier-free guidance; 1 is the conditional pass alone.
        student_adversarial_weight, critic_adversarial_weight: 5e-3 each in the paper.
        r1_weight, r1_sigma: of the approximated R1 and its noise; ``r1_every`` critic updates.
        consistency_weight: of Eq. 6; ``detach_multiview`` says which side it holds fixed.
        rendering_weight: of Eq. 5 on multi-view data given with a picture, where there is one truth to keep to; 0 in
            the paper. ``gradient_weight`` as in stage 1.
        student_input: "rollout" trains on the student's own states; "data" on noisy truths (multi-view data only).
        score_low, score_high: bounds of the noise level of scores.
        rollout_every: critic updates in a row that share one set of rollouts and truths, each with fresh noise; must
            divide ``critic_updates``, between two of the student's updates. 1 makes fresh ones, as DMD2 does; more is
            cheaper.
        average: decay of the student's running average, which is sampled and exported.
        normalize: divide the distribution matching gradient by the teacher's error.
    """

    run: Run = Run(iterations=10_000)
    student: Optimizer = Optimizer(lr=1e-6, weight_decay=1e-5, decay_from=5000)
    critic: Optimizer = Optimizer(lr=5e-7, weight_decay=1e-5, decay_from=5000)
    head: Optimizer = Optimizer(lr=1e-5, weight_decay=1e-5, decay_from=5000)
    tasks: Tasks = Tasks()
    data: DataKinds = DataKinds()
    conditioning: Conditioning = Conditioning(nothing=0.0)
    critic_updates: int = 4
    warm_critic: int = 0
    teacher_guidance: float = 3.0
    distribution_weight: float = 1.0
    student_adversarial_weight: float = 5e-3
    critic_adversarial_weight: float = 5e-3
    r1_weight: float = 100.0
    r1_sigma: float = 0.1
    r1_every: int = 1
    consistency_weight: float = 0.1
    detach_multiview: bool = True
    detach_latents: bool = True
    rendering_weight: float = 0.0
    gradient_weight: float = 0.0
    student_input: Literal["rollout", "data"] = "rollout"
    score_low: float = 0.02
    score_high: float = 0.98
    rollout_every: int = 1
    average: float = 0.99
    normalize: bool = True
    head_width: int = 256


@dataclasses.dataclass(frozen=True)
class Source:
    """One data set of a recipe.

    Attributes:
        name: a key of `datasets.READERS`, or "toyworld".
        root: its folder; empty for ToyWorld.
        weight: how often it is drawn beside the others of its kind.
        kind: "multiview", "ood", "image" or "video".
        strides: frames between views, one drawn a clip.
        simple, hold_out: of ToyWorld, see `toyworld.ToyWorldData`.
    """

    name: str = "toyworld"
    root: str = ""
    weight: float = 1.0
    kind: Literal["multiview", "ood", "image", "video"] = "multiview"
    strides: tuple[int, ...] = (1,)
    simple: bool = False
    hold_out: bool = False


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A complete training: model, data, both stages.

    Attributes:
        name: "nano", "tiny", "full", or your own.
        model: a preset's name, or a folder whose config is taken.
        start: where stage 1 begins: a model folder, a diffusers folder of the base video model, or "" for random.
        license: of the exported weights; they inherit that of ``start``.
        data: the sources.
        text_cache: folder of text embeddings; empty where the recipe has a text encoder of its own.
    """

    name: str = "nano"
    model: str = "nano"
    start: str = ""
    license: str = ""
    data: tuple[Source, ...] = (Source(),)
    text_cache: str = ""
    pretrain: Pretraining = Pretraining()
    distill: Distillation = Distillation()


def from_mapping(kind: type, values: Mapping[str, Any], base: Any = None, path: str = "") -> Any:
    """A dataclass from nested mappings; what is left out is taken from ``base``, or is the default.

    Raises:
        FlashWorldError: unknown keys (with the nearest known ones) or values of another type.
    """
    if not isinstance(values, Mapping):
        raise FlashWorldError(f"{path or 'The recipe'} must be a mapping of fields, got {type(values).__name__}.")
    base = kind() if base is None else base
    hints = typing.get_type_hints(kind)
    changed = {}
    for key, value in values.items():
        if key not in hints:
            raise FlashWorldError(f"Unknown field {_join(path, key)}; known are {', '.join(hints)}.")
        changed[key] = _convert(hints[key], value, getattr(base, key), _join(path, key))
    return dataclasses.replace(base, **changed)


def read_recipe(path: str | Path, base: Recipe) -> Recipe:
    """A recipe from a YAML or JSON file; fields it leaves out are those of ``base``.

    Raises:
        FlashWorldError: a file that cannot be read or parsed, unknown fields, or wrong values.
    """
    import yaml

    try:
        values = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise FlashWorldError(f"The recipe {path} cannot be read: {error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FlashWorldError(f"The recipe {path} is neither YAML nor JSON: {error}.") from error
    return from_mapping(Recipe, values or {}, base)


def override(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """A recipe with fields set by name: ``distill.run.batch=2``; values are written as in YAML.

    Raises:
        FlashWorldError: no "=", an unknown field, or a value of another type.
    """
    import yaml

    for item in assignments:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise FlashWorldError(f"--set takes NAME=VALUE, for example distill.run.batch=2; got {item!r}.")
        try:
            value: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise FlashWorldError(f"--set {name}: {text!r} is not a value ({error}).") from error
        for part in reversed(name.split(".")):
            value = {part: value}
        recipe = from_mapping(Recipe, value, recipe)
    return recipe


def to_json(recipe: Recipe) -> str:
    """All fields of a recipe, as JSON that `read_recipe` reads back."""
    return json.dumps(dataclasses.asdict(recipe), indent=1)


def _convert(hint: Any, value: Any, base: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, base, path)
    if origin is Literal:
        if value not in arguments:
            raise FlashWorldError(f"{path} must be one of {', '.join(map(str, arguments))}, got {value!r}.")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise FlashWorldError(f"{path} must be a list, got {value!r}.")
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], v, arguments[0](), f"{path}[{i}]") for i, v in enumerate(value))
        if len(value) != len(arguments):
            raise FlashWorldError(f"{path} must have {len(arguments)} values, got {len(value)}.")
        return tuple(
            _convert(a, v, None, f"{path}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True))
        )
    if isinstance(hint, types.UnionType):
        hint = next(argument for argument in arguments if argument is not types.NoneType)
    if hint is float and isinstance(value, str):
        value = _number(value)  # YAML 1.1 reads 1e-4 as a string
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise FlashWorldError(f"{path} must be a {hint.__name__}, got {value!r}.")
    return value


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)
