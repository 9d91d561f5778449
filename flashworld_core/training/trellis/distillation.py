"""Distilling one flow of TRELLIS into one or two steps, by MDT-dist or a consistency baseline."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn

from ...flow.guidance import guided
from ...flow.ode import TIME_SCALE
from ...models.dinov2 import ImageTokens
from ...models.sparse import SparseLayout
from ..draws import Draws
from ..objectives.mdt import Field, Teacher, Terms, consistency_loss, distillation_levels, mdt_loss
from ..trainer import Player
from .objects import batched_coords
from .recipe import Distill
from .stages import FlowData, OnePlayerStage


def objective(
    distill: Distill, student: Field, teacher: Teacher, x0: Tensor, noise: Tensor, start: Tensor, t: Tensor
) -> Terms:
    """The loss of a method; arguments as in `objectives.mdt.mdt_loss`."""
    options = distill.mdt
    if distill.method == "mdt":
        return mdt_loss(student, teacher, x0, noise, start, t, options)
    if distill.method == "continuous":
        exact = dataclasses.replace(options, derivative="exact", vd_weight=0.0)
        return mdt_loss(student, teacher, x0, noise, start, t, exact)
    phases = distill.phases if distill.method == "phased" else 1
    return consistency_loss(
        student, teacher, x0, noise, t, interval=options.interval, guidance=options.vm_guidance, phases=phases
    )


class DistillationStage(OnePlayerStage):
    """One flow, the student, against a frozen copy, the teacher.

    Structure latents go through in a batch; objects of the second flow one by one, each [1, n, C], so that the
    objective's formulas stay those of dense data.

    Args:
        flow: which of the two.
        teacher: frozen.
        image_encoder: frozen.
    """

    def __init__(
        self, flow: Literal["structure", "slat"], data: FlowData, teacher: nn.Module, image_encoder: ImageTokens,
        player: Player, distill: Distill, group: int,
    ):  # fmt: skip
        super().__init__(player)
        self.name, self.flow = f"distill_{flow}", flow
        self.data, self.teacher, self.encoder = data, teacher, image_encoder
        self.distill, self.group = distill, group

    def loss(self, player: str, draws: Draws, sample: int) -> tuple[Tensor, dict[str, float]]:
        network, distill = self.players[player].module, self.distill
        items = self.data.group(sample * self.group, self.group)
        with torch.no_grad():
            tokens = self.encoder(self.data.images(items))
        levels = distillation_levels(
            draws.normal("level", (len(items),)), distill.mdt.interval, distill.level_mean, distill.level_spread
        )
        if self.flow == "structure":
            x0 = self.data.structure(items)
            noises = [draws.normal(name, x0.shape) for name in ("noise", "start")]
            fields = _fields(network, self.teacher, tokens)
            terms = [objective(distill, *fields, x0, *noises, levels)]
        else:
            terms = []
            for i, item in enumerate(items):
                layout = SparseLayout(batched_coords([item]))
                x0 = self.data.slat([item])[None]
                noises = [draws.normal(f"{name}/{i}", x0.shape) for name in ("noise", "start")]
                fields = _fields(network, self.teacher, tokens[i : i + 1], layout)
                terms.append(objective(distill, *fields, x0, *noises, levels[i : i + 1]))
        names = terms[0].values
        report = {name: sum(term.values[name].item() for term in terms) / len(terms) for name in names}
        return sum(term.loss for term in terms) / len(terms), report


def _fields(
    student: nn.Module, teacher: nn.Module, tokens: Tensor, layout: SparseLayout | None = None
) -> tuple[Field, Teacher]:
    """Student and teacher as the objectives want them; with a layout x is [1, n, C]."""

    def run(network: nn.Module, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        if layout is None:
            return network(x, TIME_SCALE * t, condition)
        return network(x[0], TIME_SCALE * t, condition, layout)[None]

    def guided_teacher(x: Tensor, t: Tensor, strength: float) -> Tensor:
        v = run(teacher, x, t, tokens)
        return guided(v, run(teacher, x, t, torch.zeros_like(tokens)), strength) if strength else v

    return (lambda x, t: run(student, x, t, tokens)), guided_teacher
