"""Marginal-data transport distillation (MDT-dist, arXiv 2509.04406): a flow in one or two steps.

The student f starts as a copy of the teacher V and ends as the average velocity between t and 0: x0 = x_t - t f.
With u(x, t) = d/dt [t f(x_t, t)] = f + t df/dt, velocity matching (VM) asks u = V on noisy data, and velocity
distillation (VD) on what the student itself makes. Notation: D the interval of a finite difference, sg stop-gradient.

Functions know no model. A field is ``field(x, t)``, a velocity of x [B, ...] at noise levels t [B] in 0..1; a teacher
is ``teacher(x, t, guidance)``. Sparse objects are samples of their own: x [1, n, C].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import FlashWorldError
from ...flow.ode import SIGMA_MIN, along_time, noised

Field = Callable[[Tensor, Tensor], Tensor]
Teacher = Callable[[Tensor, Tensor, float], Tensor]
Norm = Literal["none", "sample", "rms"]
VM, VD = "vm", "vd"


@dataclasses.dataclass(frozen=True)
class MdtOptions:
    """Everything that decides the two losses.

    Attributes:
        derivative: "finite" takes the difference over ``interval``, "exact" forward differentiation; with "exact" and
            ``vd_weight`` 0 this is continuous consistency training (sCM) of a velocity network.
        interval: D.
        norm: what the derivative is divided by, plus ``norm_constant``: "sample", its length over a whole sample (the
            published setting; its effect shrinks with the square root of the number of values); "rms", its root mean
            square, which does not depend on the size; "none".
        norm_constant: c.
        vm_guidance, vd_guidance: the teacher's guidance in each loss.
        vd_weight: of VD beside VM's 1; 0 leaves it out.
        vd_time_factor: weight VD by dx'_t/dx' = 1 - t, as the paper has it; the published code does not.
    """

    derivative: Literal["finite", "exact"] = "finite"
    interval: float = 0.01
    norm: Norm = "sample"
    norm_constant: float = 0.1
    vm_guidance: float = 40.0
    vd_guidance: float = 100.0
    vd_weight: float = 1.0
    vd_time_factor: bool = False

    def __post_init__(self):
        if self.derivative not in ("finite", "exact") or self.norm not in ("none", "sample", "rms"):
            raise FlashWorldError(f"There is no derivative {self.derivative!r} with norm {self.norm!r}.")
        if not 0 < self.interval < 1 or self.norm_constant < 0 or self.vd_weight < 0:
            raise FlashWorldError("interval must lie in (0, 1); norm_constant and vd_weight must not be negative.")


@dataclasses.dataclass(frozen=True)
class Terms:
    """A loss in its parts.

    Attributes:
        loss: what is minimized.
        values: each part's own, without its weight.
        predictions, targets: tensors whose mean squared difference each part is.
    """

    loss: Tensor
    values: dict[str, Tensor]
    predictions: dict[str, Tensor]
    targets: dict[str, Tensor]


@torch.no_grad()
def finite_derivative(field: Field, x: Tensor, t: Tensor, direction: Tensor, interval: float, value: Tensor) -> Tensor:
    """df/dt along the path of velocity ``direction``: (f(x, t) - f(x - D v, t - D)) / D, with f(x, t) given."""
    return (value - field(x - interval * direction, t - interval)) / interval


@torch.no_grad()
def exact_derivative(field: Field, x: Tensor, t: Tensor, direction: Tensor) -> Tensor:
    """df/dt along (direction, 1) by forward differentiation."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward derivative
        return torch.func.jvp(field, (x, t), (direction, torch.ones_like(t)))[1]


def normalized(derivative: Tensor, norm: Norm, constant: float) -> Tensor:
    """A derivative [B, ...] divided by its size in each sample plus a constant."""
    if norm == "none":
        return derivative
    length = derivative.flatten(1).norm(dim=1)
    if norm == "rms":
        length = length / derivative[0].numel() ** 0.5
    return derivative / (along_time(length, derivative) + constant)


def _derivative(field: Field, x: Tensor, t: Tensor, direction: Tensor, value: Tensor, options: MdtOptions) -> Tensor:
    if options.derivative == "exact":
        found = exact_derivative(field, x, t, direction)
    else:
        found = finite_derivative(field, x, t, direction, options.interval, value.detach())
    return normalized(found, options.norm, options.norm_constant)


def velocity_matching(
    student: Field, teacher: Teacher, x0: Tensor, noise: Tensor, t: Tensor, options: MdtOptions
) -> tuple[Tensor, Tensor]:
    """VM: f(x_t, t) and its target sg[V(x_t, t) - t df/dt], on noisy data.

    Args:
        x0, noise: [B, ...] data and standard normal numbers.
        t: [B] noise levels in [D, 1].
    """
    x = noised(x0, noise, along_time(t, x0))
    with torch.no_grad():
        v = teacher(x, t, options.vm_guidance)
    predicted = student(x, t)
    change = _derivative(student, x, t, v, predicted, options)
    return predicted, (v - along_time(t, x) * change).detach()


def velocity_distillation(
    student: Field, teacher: Teacher, start: Tensor, noise: Tensor, t: Tensor, options: MdtOptions
) -> tuple[Tensor, Tensor]:
    """VD: VM on what the student itself makes, with the gradient through f(z', 1) alone.

    x' = z' - f(z', 1), x'_t = (1 - t) x' + t e. The prediction's value is f(x'_t, t), its target sg[V - t df/dt]; their
    difference r, which stands for the difference of the scores of what is made and of the data, acts on f(z', 1):
    the gradient is 2 r df(z', 1)/dtheta.

    Args:
        start: [B, ...] the noise z' the student begins with.
        noise: [B, ...] e.
        t: [B] noise levels in [D, 1].
    """
    first = student(start, torch.ones_like(t))
    with torch.no_grad():
        made = start - first
        x = noised(made, noise, along_time(t, made))
        value, v = student(x, t), teacher(x, t, options.vd_guidance)
        change = _derivative(student, x, t, v, value, options)
        target = v - along_time(t, x) * change
    factor = 1 - along_time(t, x) if options.vd_time_factor else 1.0
    return value + factor * (first - first.detach()), target


def mdt_loss(
    student: Field, teacher: Teacher, x0: Tensor, noise: Tensor, start: Tensor, t: Tensor, options: MdtOptions
) -> Terms:
    """VM + vd_weight VD, sharing t and e.

    Args:
        student, teacher: see the module.
        x0, noise, start: [B, ...] data, e, and the noise z' of VD.
        t: [B].
    """
    pairs = {VM: velocity_matching(student, teacher, x0, noise, t, options)}
    if options.vd_weight:
        pairs[VD] = velocity_distillation(student, teacher, start, noise, t, options)
    return _terms(pairs, {VD: options.vd_weight})


def consistency_loss(
    student: Field, teacher: Teacher, x0: Tensor, noise: Tensor, t: Tensor, *, interval: float = 0.01,
    guidance: float = 0.0, phases: int = 1,
) -> Terms:  # fmt: skip
    """Consistency distillation: the same point of the data from both ends of a teacher's step.

    x_t - (t - s) f(x_t, t) is held to sg[x_p - (p - s) f(x_p, p)] with p = t - D, x_p = x_t - D V(x_t, t), where s is
    the lower end of the phase that t lies in: 0 for one phase, i / phases for phased consistency (PCM). A step over the
    border of a phase ends on it.

    Args:
        phases: equal parts of [0, 1].
    """
    if phases < 1:
        raise FlashWorldError(f"phases must be at least 1, got {phases}.")
    x = noised(x0, noise, along_time(t, x0))
    end = torch.ceil(t * phases - 1e-6).sub(1).clamp_min(0) / phases
    before = torch.maximum(t - interval, end)
    with torch.no_grad():
        previous = x - along_time(t - before, x) * teacher(x, t, guidance)
        target = previous - along_time(before - end, x) * student(previous, before)
    predicted = x - along_time(t - end, x) * student(x, t)
    return _terms({VM: (predicted, target)}, {})


def _terms(pairs: dict[str, tuple[Tensor, Tensor]], weights: dict[str, float]) -> Terms:
    values = {name: F.mse_loss(p.float(), t.float()) for name, (p, t) in pairs.items()}
    loss = sum(weights.get(name, 1.0) * value for name, value in values.items())
    return Terms(loss, values, {n: p for n, (p, _) in pairs.items()}, {n: t for n, (_, t) in pairs.items()})


def distillation_levels(normal: Tensor, interval: float, mean: float = 1.0, spread: float = 1.0) -> Tensor:
    """Noise levels in [s + D, 1] from standard normal numbers [B]: logit-normal, then mapped to the interval."""
    low = SIGMA_MIN + interval
    return low + (1 - low) * torch.sigmoid(mean + spread * normal)
