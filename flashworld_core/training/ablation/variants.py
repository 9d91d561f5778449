"""The variants: what each changes of the recipe, and how its output is made."""

from __future__ import annotations

import dataclasses
from typing import Literal

Mode = Literal["multiview", "scene", "few_multiview", "few_scene"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of the ablation.

    Attributes:
        name: what the paper calls it.
        mode: how it is sampled: "multiview" the multi-view mode's ODE, "scene" the 3D mode as stage 1
            leaves it; "few_multiview" and "few_scene" the distilled student.
        settings: fields of the recipe, as after ``--set``; of none, nothing is trained.
        steps: of the ODE, or of the student's schedule.
    """

    name: str
    mode: Mode
    settings: tuple[str, ...] = ()
    steps: int = 4


_NO_OOD = ("distill.data.ood=0",)
VARIANTS = {
    "A": Variant("MV-Diff", "multiview", steps=30),
    "B": Variant("3D-Diff", "scene"),
    "B30": Variant("3D-Diff, 30 steps", "scene", steps=30),
    "C": Variant(
        "MV-Dist", "few_multiview",
        ("distill.tasks.multiview=1", "distill.tasks.input_views=0", "distill.tasks.novel_views=0"),
    ),
    "D": Variant("without consistency", "few_scene", ("distill.consistency_weight=0",)),
    "E": Variant("without OOD data", "few_scene", _NO_OOD),
    "F": Variant("full", "few_scene", ("distill.consistency_weight=0.1",)),
    "G": Variant(
        "distribution matching alone", "few_scene",
        (*_NO_OOD, "distill.tasks.multiview=0", "distill.tasks.novel_views=1", "distill.consistency_weight=0",
         "distill.student_adversarial_weight=0", "distill.critic_adversarial_weight=0"),
    ),
}  # fmt: skip
"""A to F are the paper's (Table 3); G is stage T1 of our own plan."""
