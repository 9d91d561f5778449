"""MDT-dist: values by hand, derivatives, norms, phases, the toy in the plane, and the stages of TRELLIS."""

import dataclasses
import math

import pytest
import torch

from flashworld_core.datasets.objects import draw_object, render_object, surface_points
from flashworld_core.errors import FlashWorldError
from flashworld_core.flow.guidance import Guidance, guided
from flashworld_core.flow.ode import SIGMA_MIN, data_of, noised, velocity_target
from flashworld_core.flow.schedule import ode_levels
from flashworld_core.generators.trellis.cameras import object_cameras
from flashworld_core.training.objectives.mdt import (
    MdtOptions,
    consistency_loss,
    distillation_levels,
    exact_derivative,
    finite_derivative,
    mdt_loss,
    normalized,
)  # fmt: skip
from flashworld_core.training.recipes.mdt_toy import ToySettings, judged, student_flow, teacher_flow, toy_table
from flashworld_core.training.recipes.trellis_mdt import TrellisRun, build_on_meta, full, nano
from flashworld_core.training.trellis.bits import bit_decoder, filled, filled_latents
from flashworld_core.training.trellis.distillation import objective

RAW = MdtOptions(norm="none", vm_guidance=0.0, vd_guidance=0.0)


def field(x, t):
    """x t^2 + 3 t, whose derivative along (v, 1) is v t^2 + 2 x t + 3."""
    t = t.reshape(-1, *[1] * (x.ndim - 1))
    return x * t**2 + 3 * t


def test_flow_conventions():
    x0, noise, t = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([[0.3], [0.3]])
    x, v = noised(x0, noise, t), velocity_target(x0, noise)
    assert torch.allclose(data_of(x, v, 0.3), x0, atol=1e-6)
    later = noised(x0, noise, t + 1e-3)
    assert torch.allclose((later - x) / 1e-3, v, atol=1e-3)
    assert ode_levels(2) == [1.0, 0.75, 0.0] and ode_levels(1) == [1.0, 0.0]
    assert guided(torch.tensor(2.0), torch.tensor(1.0), 3.0) == 5.0
    assert Guidance(5, 0.5).acts(0.5) and not Guidance(5, 0.5).acts(0.49) and not Guidance(0).acts(0.7)


def test_both_derivatives_are_the_derivative():
    x, t, v = torch.randn(2, 5), torch.tensor([0.5, 0.9]), torch.randn(2, 5)
    expected = v * t[:, None] ** 2 + 2 * x * t[:, None] + 3
    assert torch.allclose(exact_derivative(field, x, t, v), expected, atol=1e-5)
    assert torch.allclose(finite_derivative(field, x, t, v, 1e-3, field(x, t)), expected, atol=1e-2)


def test_norms():
    d = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert torch.allclose(normalized(d, "sample", 0.1)[0], d[0] / 5.1)
    assert torch.allclose(normalized(d, "rms", 0.1)[0], d[0] / (5 / math.sqrt(2) + 0.1))
    assert torch.equal(normalized(d, "none", 0.1), d) and normalized(d, "sample", 0.1)[1].abs().max() == 0
    many = d[:1].repeat(1, 50)
    assert torch.allclose(normalized(many, "rms", 0.1)[0, :2], normalized(d, "rms", 0.1)[0])  # whatever the size
    with pytest.raises(FlashWorldError, match="no derivative"):
        MdtOptions(norm="other")


def test_velocity_matching_by_hand():
    """One number: f = a constantly, so df/dt = 0 and the target is V."""
    a = torch.tensor([[0.5]], requires_grad=True)
    terms = mdt_loss(
        lambda x, t: a + 0 * x, lambda x, t, w: torch.full_like(x, 2.0 + w), torch.zeros(1, 1), torch.ones(1, 1),
        torch.ones(1, 1), torch.tensor([0.6]), dataclasses.replace(RAW, vm_guidance=1.0, vd_guidance=3.0),
    )  # fmt: skip
    assert float(terms.values["vm"]) == pytest.approx((0.5 - 3) ** 2)
    assert float(terms.values["vd"]) == pytest.approx((0.5 - 5) ** 2)
    terms.loss.backward()
    assert float(a.grad) == pytest.approx(2 * (0.5 - 3) + 2 * (0.5 - 5))
    shy = dataclasses.replace(RAW, vd_time_factor=True, vd_guidance=3.0)
    a.grad = None
    made = mdt_loss(lambda x, t: a + 0 * x, lambda x, t, w: torch.full_like(x, 2.0 + w), torch.zeros(1, 1),
                    torch.ones(1, 1), torch.ones(1, 1), torch.tensor([0.6]), shy)  # fmt: skip
    made.values["vd"].backward()
    assert float(a.grad) == pytest.approx(0.4 * 2 * (0.5 - 5), rel=1e-5)


def test_the_target_is_a_fixed_point_of_the_average_velocity():
    """For a straight flow to one point the average velocity is the velocity: every loss is 0 there."""
    point = torch.tensor([[1.0, -2.0]])

    def straight(x, t):  # v = (x - x0) / t, but for the noise left in data
        return (x - point) / t.reshape(-1, 1)

    x0, noise, t = point.repeat(4, 1), torch.randn(4, 2), torch.tensor([0.2, 0.5, 0.8, 1.0])
    options = dataclasses.replace(RAW, interval=1e-3)
    terms = mdt_loss(straight, lambda x, t, w: straight(x, t), x0, noise, torch.randn(4, 2), t, options)
    assert float(terms.loss) < 1e-4
    for phases in (1, 3):
        loss = consistency_loss(straight, lambda x, t, w: straight(x, t), x0, noise, t, phases=phases).loss
        assert float(loss) < 1e-6


def test_phases_end_where_they_should():
    seen = []

    def student(x, t):
        seen.append(t.clone())
        return torch.zeros_like(x)

    t = torch.tensor([1.0, 0.505, 0.5, 0.25])
    consistency_loss(student, lambda x, t, w: torch.zeros_like(x), torch.zeros(4, 1), torch.ones(4, 1), t, phases=2)
    assert torch.allclose(seen[0], torch.tensor([0.99, 0.5, 0.49, 0.24]))  # 0.505 - 0.01 is cut at the border
    with pytest.raises(FlashWorldError, match="phases"):
        consistency_loss(student, student, torch.zeros(1, 1), torch.zeros(1, 1), t[:1], phases=0)


def test_levels_lie_in_their_interval():
    levels = distillation_levels(torch.randn(1000), 0.01)
    assert levels.min() >= SIGMA_MIN + 0.01 and levels.max() <= 1 and levels.mean() > 0.6


def test_few_updates_in_the_plane_lower_the_distance():
    settings = ToySettings(teacher_updates=500, student_updates=250, batch=128, points=256, average=0.95)
    teacher = teacher_flow(settings)
    before, after = judged(teacher, 2, settings), judged(student_flow(teacher, "vm+vd", settings), 2, settings)
    assert after < 0.8 * before


@pytest.mark.slow
def test_two_steps_in_the_plane_beat_the_teachers_and_consistency():
    table = toy_table()
    for method in ("vm", "vm+vd"):
        assert table[method][2] < 0.25 * table["teacher"][2] and table[method][1] < 0.5 * table["teacher"][1]
        assert table[method][1] < table["cm"][1] and table[method][2] < table["cm"][2]


def test_every_stage_runs_resumes_and_distills(tmp_path):
    run = TrellisRun(nano(), tmp_path)
    run.all_stages()
    files = {file.stem for file in tmp_path.glob("*.pt")}
    assert files == {"objects", "structure_vae", "flows", "gaussian_decoder", "distill_structure", "distill_slat"}
    again = TrellisRun(nano(), tmp_path)  # everything is read back
    assert torch.equal(again.flows().slat_flow.out_layer.weight, run.flows().slat_flow.out_layer.weight)
    moved = again.distilled("slat").out_layer.weight - again.flows().slat_flow.out_layer.weight
    assert moved.abs().max() > 0
    for method in ("consistency", "phased", "continuous"):
        distill = dataclasses.replace(nano().distill, method=method)
        assert again.distilled("structure", distill, f"structure_{method}").out_layer.weight.isfinite().all()


def test_the_published_recipe():
    recipe = full()
    networks = build_on_meta(recipe)
    assert sum(p.numel() for p in networks["student"].structure_flow.parameters()) == 559_737_864 - 4096 * 1024
    distill = recipe.distill
    assert (distill.structure.optimizer.lr, distill.slat.optimizer.lr) == (4e-8, 1e-8)
    assert (distill.structure.run.iterations, distill.slat.run.iterations) == (6000, 4000)
    assert distill.structure.run.batch == 256 and distill.structure.average == 0.9999
    assert (distill.mdt.vm_guidance, distill.mdt.vd_guidance, distill.mdt.norm) == (40, 100, "sample")
    with pytest.raises(FlashWorldError, match="weights that exist"):
        TrellisRun(recipe, ".")


def test_methods_are_what_they_say():
    x = torch.zeros(1, 1)
    arguments = (lambda x, t: x, lambda x, t, w: x, x, x, x, torch.tensor([0.5]))
    for method, names in (("mdt", {"vm", "vd"}), ("continuous", {"vm"}), ("consistency", {"vm"}), ("phased", {"vm"})):
        assert set(objective(dataclasses.replace(nano().distill, method=method), *arguments).values) == names


def test_written_down_latents_give_the_surface_back():
    surface = torch.zeros(1, 1, 8, 8, 8)
    surface[0, 0, 1:7, 2:6, 0:5] = 1
    surface[0, 0, 2:6, 3:5, 1:4] = 0  # hollow
    solid = filled(surface)
    assert solid.sum() == 6 * 4 * 5 and filled(torch.zeros(1, 1, 4, 4, 4)).sum() == 0
    config = dataclasses.replace(nano().config.structure_decoder, channels=(8, 2), latent_channels=8)
    latents = filled_latents(surface)
    mean, std = float(latents.mean()), float(latents.std())
    assert torch.equal(bit_decoder(config, mean, std)((latents - mean) / std) > 0, surface > 0)
    with pytest.raises(FlashWorldError, match="8 latent channels"):
        bit_decoder(nano().config.structure_decoder, 0.0, 1.0)


def test_objects_are_their_seeds_and_their_surface_is_where_the_image_shows_it():
    shape = draw_object(7)
    assert (
        len(draw_object(7).solids) == len(shape.solids)
        and (draw_object(7).solids[0].color == shape.solids[0].color).all()
    )
    assert (draw_object(7, "test").solids[0].color != shape.solids[0].color).any()
    points, normals, colors = surface_points(shape, 4000)
    assert (
        abs(points).max() < 0.5 and abs((normals**2).sum(1) - 1).max() < 1e-6 and 0 <= colors.min() <= colors.max() <= 1
    )
    camera = object_cameras(1, 64, 64)
    alpha = render_object(shape, camera)[0, ..., 3]
    pose, k = camera.camera_to_world[0].double(), camera.intrinsics[0].double()
    seen = (torch.from_numpy(points) - pose[:3, 3]) @ pose[:3, :3]
    u, v = (seen[:, :2] / seen[:, 2:] @ k[:2, :2].T + k[:2, 2]).floor().long().clamp(0, 63).unbind(1)
    assert (alpha[v, u] > 0).float().mean() > 0.98  # but for points on the very edge
