"""The objectives of MDT-dist on a flow in the plane, small enough to run in a minute: four classes of three modes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...flow.ode import TIME_SCALE, along_time, euler_samples, noised, velocity_target
from ...flow.schedule import ode_levels
from ..draws import Draws
from ..objectives.mdt import MdtOptions, Terms, consistency_loss, distillation_levels, mdt_loss
from ..optim import update_average

CLASSES, MODES = 4, 3
WIDTH, DEPTH = 128, 3
FREQUENCIES = 16
STEPS = (1, 2, 4)


@dataclasses.dataclass(frozen=True)
class ToySettings:
    """How long and how fast.

    Attributes:
        teacher_updates, student_updates: of ``batch`` points each.
        points: judged per class.
        options: of VM and VD; the consistency baseline takes its interval.
    """

    teacher_updates: int = 3000
    student_updates: int = 1500
    batch: int = 256
    teacher_lr: float = 2e-3
    student_lr: float = 5e-4
    average: float = 0.995
    points: int = 1024
    seed: int = 0
    options: MdtOptions = MdtOptions(norm="rms", vm_guidance=0.0, vd_guidance=0.0, vd_weight=0.3)


class PlaneFlow(nn.Module):
    """Velocity [B, 2] at points [B, 2], times [B] in 0..1000 and classes [B, CLASSES] as one-hot rows."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(2 + 2 * FREQUENCIES + CLASSES, WIDTH), nn.SiLU()]
        for _ in range(DEPTH - 1):
            layers += [nn.Linear(WIDTH, WIDTH), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 2))

    def forward(self, x: Tensor, t: Tensor, classes: Tensor) -> Tensor:
        # Angles of at most some 20 radians: finer ones make d/dt of the network noise.
        angles = (t / TIME_SCALE)[:, None] * torch.linspace(0.5, 20, FREQUENCIES)
        return self.layers(torch.cat([x, angles.sin(), angles.cos(), classes], 1))


def draw_points(draws: Draws, count: int) -> tuple[Tensor, Tensor]:
    """Points [count, 2] of about unit scale and their classes as one-hot rows."""
    classes = (draws.uniform("class", (count,)) * CLASSES).long().clamp(max=CLASSES - 1)
    modes = (draws.uniform("mode", (count,)) * MODES).long().clamp(max=MODES - 1)
    angle = 2 * torch.pi * (classes / CLASSES + modes / MODES / CLASSES * 2.3)
    radius = 0.8 + 0.5 * modes
    centers = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return centers + 0.06 * draws.normal("spread", (count, 2)), F.one_hot(classes, CLASSES).float()


def trained(
    network: nn.Module, loss: Callable[[Draws], Tensor], updates: int, lr: float, settings, name: str
) -> nn.Module:
    """The running average of a network after ``updates`` of Adam on ``loss(draws)``."""
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), lr)
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - update / updates)
        optimizer.zero_grad(set_to_none=True)
        loss(Draws(settings.seed, name, update)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        update_average(average, network, settings.average, update)
    return average


def teacher_flow(settings: ToySettings) -> PlaneFlow:
    """A flow trained by flow matching."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = PlaneFlow()

    def loss(draws: Draws) -> Tensor:
        x0, classes = draw_points(draws, settings.batch)
        noise, t = draws.normal("noise", x0.shape), draws.uniform("t", (settings.batch,))
        v = network(noised(x0, noise, along_time(t, x0)), TIME_SCALE * t, classes)
        return F.mse_loss(v, velocity_target(x0, noise))

    return trained(network, loss, settings.teacher_updates, settings.teacher_lr, settings, "teacher")


def student_flow(teacher: PlaneFlow, method: str, settings: ToySettings) -> PlaneFlow:
    """A copy of the teacher distilled by "cm", "vm" or "vm+vd"."""
    network, options = copy.deepcopy(teacher).requires_grad_(True), settings.options

    def terms(draws: Draws) -> Terms:
        x0, classes = draw_points(draws, settings.batch)
        noise, start = draws.normal("noise", x0.shape), draws.normal("start", x0.shape)
        levels = distillation_levels(draws.normal("level", (settings.batch,)), options.interval)
        student = lambda x, t: network(x, TIME_SCALE * t, classes)  # noqa: E731
        fixed = lambda x, t, strength: teacher(x, TIME_SCALE * t, classes)  # noqa: E731
        if method == "cm":
            return consistency_loss(student, fixed, x0, noise, levels, interval=options.interval)
        weight = options.vd_weight if method == "vm+vd" else 0.0
        return mdt_loss(student, fixed, x0, noise, start, levels, dataclasses.replace(options, vd_weight=weight))

    return trained(
        network, lambda draws: terms(draws).loss, settings.student_updates, settings.student_lr, settings, method
    )


@torch.no_grad()
def judged(network: PlaneFlow, steps: int, settings: ToySettings) -> float:
    """Mean energy distance over the classes between what a flow makes in ``steps`` and the data."""
    draws = Draws(settings.seed, "judge", 0)
    total = 0.0
    for c in range(CLASSES):
        truth = [draw_points(draws.of(i), CLASSES * settings.points) for i in (2 * c, 2 * c + 1)][0]
        truth = truth[0][truth[1][:, c] > 0][: settings.points]
        classes = F.one_hot(torch.full((len(truth),), c), CLASSES).float()
        noise = draws.of(c).normal("start", truth.shape)
        made = list(euler_samples(network, noise, classes, ode_levels(steps)))[-1].x
        total += energy_distance(made, truth) / CLASSES
    return total


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'| of two sets [N, d], [M, d]; 0 for equal distributions."""
    within = [torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * torch.cdist(a, b).mean() - within[0] - within[1])


def toy_table(settings: ToySettings | None = None) -> dict[str, dict[int, float]]:
    """Energy distances by method and steps: "teacher" (at 25 steps too), "cm", "vm", "vm+vd"."""
    settings = settings or ToySettings()
    teacher = teacher_flow(settings)
    table = {"teacher": {steps: judged(teacher, steps, settings) for steps in (*STEPS, 25)}}
    for method in ("cm", "vm", "vm+vd"):
        student = student_flow(teacher, method, settings)
        table[method] = {steps: judged(student, steps, settings) for steps in STEPS}
    return table
