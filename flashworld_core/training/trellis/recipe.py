"""What a run of TRELLIS is made of: sizes, data, and the settings of each stage."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ...generators.trellis.presets import TrellisConfig
from ..config import Optimizer, Run
from ..objectives.mdt import MdtOptions

METHODS = ("mdt", "consistency", "phased", "continuous")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one stage runs.

    Attributes:
        run: its length; a sample of ``run.batch`` is a group of objects.
        optimizer: its only one.
        average: decay of the running average of the weights, which later stages and the export use.
        group: objects of a sample.
    """

    run: Run
    optimizer: Optimizer
    average: float = 0.999
    group: int = 16


@dataclasses.dataclass(frozen=True)
class Distill:
    """How the flows become few-step ones.

    Attributes:
        structure, slat: settings of each flow's own run.
        method: "mdt" (VM and VD), or the baselines "consistency" (CM), "phased" (PCM), "continuous" (sCM).
        mdt: of "mdt", and of "continuous" but for its derivative.
        phases: of "phased".
        level_mean, level_spread: of the logit-normal noise levels.
    """

    structure: Settings
    slat: Settings
    method: Literal["mdt", "consistency", "phased", "continuous"] = "mdt"
    mdt: MdtOptions = MdtOptions()
    phases: int = 2
    level_mean: float = 1.0
    level_spread: float = 1.0


@dataclasses.dataclass(frozen=True)
class TrellisRecipe:
    """A whole run.

    Attributes:
        config: sizes of the model.
        objects, held_out: procedural objects to train on and to judge by; 0: latents come from elsewhere.
        structure_vae: settings of the autoencoder; None: structure latents are written down (`bits`).
        gaussian_decoder, flows: settings of the other stages before distillation; None: their weights exist.
        distill: of the last stage.
        condition_dropout: share of objects the teacher learns without their image, for guidance.
        slat_every: the second flow, which learns faster, takes part in every so-manieth update of the teacher.
        render_pixels: side of the renders the Gaussian decoder is held to.
    """

    config: TrellisConfig
    distill: Distill
    objects: int = 0
    held_out: int = 0
    structure_vae: Settings | None = None
    gaussian_decoder: Settings | None = None
    flows: Settings | None = None
    condition_dropout: float = 0.1
    slat_every: int = 1
    render_pixels: int = 64
