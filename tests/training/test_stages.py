"""The two stages: who is touched by an update, what a rollout does, what each objective holds fixed."""

import dataclasses

import pytest
import torch
from small_recipe import micro_networks, micro_recipe

from flashworld_core.flow.sample import renoise
from flashworld_core.generators.flashworld.cameras import cameras_to_vectors, normalize_cameras
from flashworld_core.training.build import distillation_stage, pretraining_stage
from flashworld_core.training.draws import Draws
from flashworld_core.training.flashworld.networks import input_views, novel_views
from flashworld_core.training.flashworld.rollout import roll_out
from flashworld_core.training.flashworld.student import Pass, scene_of
from flashworld_core.training.flashworld.tasks import Assignment
from flashworld_core.training.trainer import Trainer


def _state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _same(module, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.fixture
def stage():
    networks, data = micro_networks()
    return distillation_stage(
        networks, data, micro_recipe(student_adversarial_weight=0.1, critic_adversarial_weight=0.1)
    )


def _force(stage, **fields):
    assignment = Assignment(
        **({"task": "input_views", "kind": "multiview", "rollout": 1, "with_image": True, "with_text": True} | fields)
    )
    stage.assignment = lambda draws: assignment
    return stage


DRAWS = Draws(0, "distill/student", 0, 5)


def test_pretraining_lowers_its_own_loss_and_touches_the_student_alone():
    networks, data = micro_networks()
    stage = pretraining_stage(networks, data, micro_recipe())
    encoder, before = _state(networks.encoder), _state(networks.student.transformer)
    trainer = Trainer(stage, micro_recipe().pretrain.run)
    losses = [stage.losses("student", [DRAWS])[0].item()]
    for _ in range(12):
        trainer.update("student")
    losses.append(stage.losses("student", [DRAWS])[0].item())
    assert losses[1] < losses[0]
    assert _same(networks.encoder, encoder) and not _same(networks.student.transformer, before)
    assert networks.encoder.quant_conv.weight.grad is None


def test_a_student_update_touches_the_student_alone(stage):
    networks, critic = stage.networks, stage.players["critic"]
    parts = {
        "critic": critic.module,
        "teacher": stage.teacher,
        "encoder": networks.encoder,
        "text": networks.student.text_encoder,
    }
    before = {name: _state(part) for name, part in parts.items()}
    student, average = _state(stage.players["student"].module), _state(stage.players["student"].average)
    Trainer(_force(stage), micro_recipe().distill.run).update("student")
    assert all(_same(part, before[name]) for name, part in parts.items())
    assert not any(optimizer.state for optimizer, _ in critic.optimizers)
    assert not _same(stage.players["student"].module, student) and not _same(stage.players["student"].average, average)
    assert all(p.requires_grad and p.grad is None for p in critic.module.parameters())


def test_a_critic_update_touches_the_critic_alone(stage):
    networks, student = stage.networks, stage.players["student"]
    parts = {
        "student": student.module,
        "average": student.average,
        "teacher": stage.teacher,
        "encoder": networks.encoder,
    }
    before = {name: _state(part) for name, part in parts.items()}
    critic = stage.players["critic"].module
    fake, head = _state(critic.transformer), _state(critic.head)
    Trainer(_force(stage), micro_recipe().distill.run).update("critic")
    assert all(_same(part, before[name]) for name, part in parts.items())
    assert not any(optimizer.state for optimizer, _ in student.optimizers)
    assert not _same(critic.transformer, fake) and not _same(critic.head, head)


def test_out_of_distribution_data_train_no_head(stage):
    loss, [report] = _force(stage, kind="ood").losses("critic", [DRAWS])
    loss.sum().backward()
    critic = stage.players["critic"].module
    assert all(p.grad is None for p in critic.head.parameters())
    assert any(p.grad is not None for p in critic.transformer.parameters())
    assert "real_logit" not in report
    _, [report] = stage.losses("student", [DRAWS])
    assert "fake_logit" not in report and "consistency" in report


def test_consistency_holds_the_multiview_head_fixed_and_weighs_a_tenth():
    networks, data = micro_networks()
    grads = {}
    for name, detach in (("held", True), ("free", False)):
        recipe = micro_recipe(distribution_weight=0.0, student_adversarial_weight=0.0, detach_multiview=detach)
        stage = _force(distillation_stage(networks, data, recipe), task="novel_views", rollout=0)
        networks.student.zero_grad()
        loss, [report] = stage.losses("student", [DRAWS])
        assert loss.item() == pytest.approx(0.1 * report["consistency"], rel=1e-6)
        loss.sum().backward()
        velocity = networks.config.output_layout["velocity"]
        grads[name] = networks.student.transformer.proj_out.weight.grad[velocity].abs().max()
    assert grads["held"] == 0 and grads["free"] > 0


def _script(calls, shape):
    """A student that records what it is called with and answers with a function of its one parameter."""
    gain = torch.tensor(0.3, requires_grad=True)

    def denoise(x, sigma, feedback):
        velocity = gain * x + sigma
        calls.append((x, sigma, feedback, torch.is_grad_enabled()))
        return Pass(velocity, torch.zeros(1, 2, *shape[2:]) + gain, x - sigma * velocity)

    return denoise, gain


@pytest.mark.parametrize("steps", [0, 2, 3])
def test_a_rollout_simulates_the_students_own_steps(steps):
    networks, data = micro_networks()
    scene = data.sample("multiview", 1, 0)
    shape, sigmas = networks.latent_shape(scene), (1.0, 0.9, 0.75, 0.5)
    views = input_views(networks, [scene], [DRAWS], with_image=[False], with_text=[True])
    calls = []
    denoise, gain = _script(calls, shape)
    made = roll_out(
        denoise,
        networks.road(),
        views,
        None,
        sigmas=sigmas,
        task="multiview",
        steps_before=steps,
        draws=[DRAWS],
        shape=shape,
    )
    assert [call[1] for call in calls] == list(sigmas[: steps + 1])
    assert [call[3] for call in calls] == [False] * steps + [True]
    assert torch.equal(calls[0][0], DRAWS.normal("init", shape)) and calls[0][2] is None
    for k in range(steps):
        z = calls[k][0] - sigmas[k] * (0.3 * calls[k][0] + sigmas[k])
        expected = renoise(z, DRAWS.normal(f"renoise_{k + 1}", shape), sigmas[k + 1])
        assert torch.allclose(calls[k + 1][0], expected, atol=1e-6)
        assert torch.allclose(calls[k + 1][2][1], z, atol=1e-6)
    made.latents.sum().backward()
    # Only the last step has a graph: d/dgain of x - sigma (gain x + sigma) at the x it was given.
    assert torch.allclose(gain.grad, -sigmas[steps] * calls[-1][0].sum(), rtol=1e-4)


def test_a_rollout_in_three_dimensions_feeds_the_encoded_renders_back():
    networks, data = micro_networks()
    scene = data.sample("multiview", 1, 0)
    shape = networks.latent_shape(scene)
    views = input_views(networks, [scene], [DRAWS], with_image=[True], with_text=[True])
    calls, real = [], networks.denoise(views)

    def denoise(x, sigma, feedback):
        calls.append((x, sigma, feedback))
        return real(x, sigma, feedback)

    road = networks.road()
    roll_out(
        denoise, road, views, None, sigmas=(1.0, 0.5), task="input_views", steps_before=1, draws=[DRAWS], shape=shape
    )
    with torch.no_grad():
        first = real(calls[0][0], 1.0, None)
        [parts] = road.gaussians(first.features, first.latents, views)
        noise = DRAWS.normal("render_posterior_0", (shape[2], shape[1], *shape[3:]))
        z = road.render_and_encode([scene_of(parts)], views, noise[None])
    assert torch.allclose(calls[1][2][1], z, atol=1e-5) and torch.allclose(calls[1][2][0], first.features, atol=1e-5)
    assert torch.allclose(calls[1][0], renoise(z, DRAWS.normal("renoise_1", shape), 0.5), atol=1e-5)


def test_novel_views_are_in_the_input_paths_frame_and_hold_the_picture():
    networks, data = micro_networks()
    views_count = networks.config.views
    raw, scene = data.raw("multiview", 2, views_count), data.sample("multiview", 2, views_count)
    views = input_views(networks, [scene], [DRAWS], with_image=[True], with_text=[True])
    [views] = views
    novel = novel_views(views, scene)
    _, normalization = normalize_cameras(cameras_to_vectors(raw.cameras))
    expected = normalization.apply(cameras_to_vectors(raw.novel_cameras))
    others = [i for i in range(views_count) if i != novel.image_index]
    assert torch.allclose(novel.cameras[others], expected[others].float(), atol=1e-6)
    assert torch.equal(novel.cameras[novel.image_index], views.cameras[views.image_index])
    assert novel.image_latents is views.image_latents
    without = novel_views(dataclasses.replace(views, image_latents=None), scene)
    assert torch.allclose(without.cameras, expected.float(), atol=1e-6)


def test_recomputing_views_changes_nothing():
    networks, data = micro_networks()
    scene = data.sample("multiview", 1, 0)
    views = input_views(networks, [scene], [DRAWS], with_image=[True], with_text=[True])
    x = DRAWS.normal("init", networks.latent_shape(scene))
    results = []
    for recompute in (True, False):
        networks.recompute_views = recompute
        networks.student.zero_grad()
        made, road = networks.denoise(views)(x, 1.0, None), networks.road()
        z = road.render_and_encode([scene_of(road.gaussians(made.features, made.latents, views)[0])], views)
        (z * torch.linspace(-1, 1, z.numel()).reshape(z.shape)).sum().backward()
        results.append((z.detach(), networks.student.recon_decoder.gs_head.gs_proj.weight.grad.clone()))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-5)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-3, atol=1e-4 * results[1][1].abs().max())


def test_the_road_is_differentiable_down_to_the_decoders_weights():
    """Finite differences of a function of E(R(Dec)) against its gradient, for the weights that matter most."""
    networks, data = micro_networks(recompute=False)
    scene = data.sample("multiview", 1, 0)
    views = input_views(networks, [scene], [DRAWS], with_image=[True], with_text=[True])
    x = DRAWS.normal("init", networks.latent_shape(scene))
    with torch.no_grad():
        made = networks.denoise(views)(x, 1.0, None)
    road, bias = networks.road(), networks.student.recon_decoder.gs_head.gs_proj.bias

    def value():
        z = road.render_and_encode([scene_of(road.gaussians(made.features, made.latents, views)[0])], views)
        return (z * torch.linspace(-1, 1, z.numel()).reshape(z.shape)).sum()

    value().backward()
    gradient = bias.grad.clone()
    # Scales and depth also move Gaussians over the rasterizer's alpha threshold, which no gradient of it sees.
    layout = networks.config.point_layout
    for index in (*range(layout["sh"].start, layout["sh"].stop), layout["opacity"].start):
        step = 1e-2
        with torch.no_grad():
            bias[index] += step
            above = value()
            bias[index] -= 2 * step
            below = value()
            bias[index] += step
        estimate = (above - below) / (2 * step)
        tolerance = 0.08 if index == layout["opacity"].start else 0.01
        assert abs(estimate - gradient[index]) < tolerance * gradient[index].abs(), index
