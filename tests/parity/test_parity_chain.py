"""The whole few-step run against the official graph's numbers, with the recorded noise in place of the seed's."""

import json
import re

import pytest
import torch
from generating import generate, prepare

from flashworld_core.flow.noise import StoredNoise
from flashworld_core.flow.schedule import shifted_schedule
from flashworld_core.generators.flashworld.cameras import normalize_path, vectors_to_cameras
from flashworld_core.generators.flashworld.conditioning import Conditions, rendering_cameras
from flashworld_core.generators.flashworld.pipeline import FlashWorldModel
from flashworld_core.generators.flashworld.sampler import FAR, NEAR, FewStepSampler
from flashworld_core.rendering.render import render


@pytest.fixture(scope="module")
def facts(parity_json):
    return parity_json


@pytest.fixture(scope="module")
def inputs(parity_tensors):
    return parity_tensors("inputs")


@pytest.fixture(scope="module")
def stages(parity_tensors):
    return parity_tensors("stages")


@pytest.fixture(scope="module")
def model(parity_config, parity_transformer, parity_gaussian_decoder, parity_encoder):
    return FlashWorldModel(parity_config, parity_transformer, parity_gaussian_decoder, parity_encoder)


@pytest.fixture
def noise(inputs):
    return StoredNoise({k.removeprefix("noise/"): v for k, v in inputs.items() if k.startswith("noise/")})


class Recorder:
    """What passes the networks of a run: transformer inputs and outputs, decoder latents, encoded images, steps."""

    def __init__(self, model):
        self.seen = {"transformer_in": [], "transformer_out": [], "decoder_z": [], "images": []}
        self.steps = []
        self._handles = [
            model.transformer.register_forward_hook(self._transformer),
            model.decoder.register_forward_hook(lambda _, args, out: self.seen["decoder_z"].append(args[1].clone())),
        ]
        self._encoder, self._moments = model.encoder, model.encoder.moments
        model.encoder.moments = self._moments_recorded

    def _transformer(self, _, args, out):
        self.seen["transformer_in"].append(args[0].clone())
        self.seen["transformer_out"].append(torch.cat(out, 1))

    def _moments_recorded(self, images):
        self.seen["images"].append(images.clone())
        return self._moments(images)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self._handles:
            handle.remove()
        del self._encoder.moments


def check(actual, expected, name):
    """The chained run's tolerances: mean 1e-4, max 1e-2."""
    assert actual.shape == expected.shape, name
    error = (actual - expected).abs()
    assert error.mean() <= 1e-4 and error.max() <= 1e-2, f"{name}: mean {error.mean():.2g}, max {error.max():.2g}"


def rows(gaussians):
    """[N, 11 + 3 K] as the vectors store them: xyz, opacity, scale, quaternion, SH."""
    parts = (gaussians.means, gaussians.opacities[:, None], gaussians.scales, gaussians.quats, gaussians.sh.flatten(1))
    return torch.cat(parts, 1)


def check_gaussians(gaussians, stages, step):
    table = rows(gaussians)
    mean, std = (stages[f"step{step}/gaussians_channel_{name}"] for name in ("mean", "std"))
    check(table.mean(0), mean, f"step {step} channel means")
    check(table.std(0), std, f"step {step} channel deviations")
    if f"step{step}/gaussians" in stages:
        expected = stages[f"step{step}/gaussians"]
        check(table, expected.reshape(-1, expected.shape[-1]), f"step {step} Gaussians")
    for name in stages:
        if match := re.fullmatch(rf"step{step}/gaussians_flat_stride(\d+)", name):
            check(table[:: int(match[1])], stages[name], name)


def check_run(recorder, model, stages, count):
    views, seen = len(stages["cameras_normalized"]), recorder.seen
    assert len(seen["transformer_in"]) == count
    z = torch.cat(seen["decoder_z"]).reshape(count, views, *seen["decoder_z"][0].shape[1:])
    renders = torch.cat([i for i in seen["images"] if i.shape[0]])[-(count - 1) * views :]
    for n in range(count):
        step = recorder.steps[n]
        check(seen["transformer_in"][n], stages[f"step{n}/transformer_in"], f"step {n} transformer input")
        check(seen["transformer_out"][n], stages[f"step{n}/transformer_out"], f"step {n} transformer output")
        check(step.latents_2d, stages[f"step{n}/latents_2d"], f"step {n} latents_2d")
        check(z[n], stages[f"step{n}/decoder_z"], f"step {n} decoder latents")
        check_gaussians(step.gaussians, stages, n)
        if n + 1 < count:
            check(renders[n * views : (n + 1) * views], stages[f"step{n}/render_rgb"], f"step {n} renders")
            check(step.latents_3d, stages[f"step{n}/latents_3d"], f"step {n} latents_3d")
            noisy = seen["transformer_in"][n + 1][:, model.config.input_layout["noisy"]]
            check(noisy, stages[f"step{n + 1}/noisy_latents"], f"step {n + 1} noisy latents")
        assert step.timestep == stages[f"step{n}/t"] and step.sigma == stages[f"step{n}/sigma"]


def stored_conditions(facts, inputs, stages, **changes):
    values = {
        "cameras": stages["cameras_normalized"],
        "width": facts["width"],
        "height": facts["height"],
        "text": inputs["text_embeds"],
        "image": inputs["image"],
        "image_index": facts["image_index"],
    }
    return Conditions(**(values | changes))


def test_sampler_with_stored_conditions(facts, inputs, stages, model, noise):
    schedule = shifted_schedule(facts["shift"]).select(facts["denoising_indices"])
    sampler = FewStepSampler(model.config, model.transformer, model.decoder, model.encoder)
    conditions = stored_conditions(facts, inputs, stages)
    with Recorder(model) as recorder:
        scene = sampler.sample(conditions, schedule, noise, on_step=recorder.steps.append)
    check_run(recorder, model, stages, len(schedule))
    assert torch.equal(rows(scene), rows(recorder.steps[-1].gaussians))


def test_the_whole_road_from_the_official_request(parity_dir, facts, inputs, stages, model, noise):
    """Request JSON, image crop, resampling, normalization, four steps: only text encoder and noise are stored."""
    from flashworld_core.media.images import open_image

    request = json.loads((parity_dir / "request.json").read_text())
    image = open_image(request["image_prompt"])
    vectors = torch.tensor(
        [
            [*c["quaternion"], *c["position"]]
            + [c["fx"] / image.width, c["fy"] / image.height, c["cx"] / image.width, c["cy"] / image.height]
            for c in request["cameras"]
        ],
        dtype=torch.float64,
    )
    views, height, width = request["resolution"]
    arguments = {
        "image": image,
        "prompt": request["text_prompt"],
        "image_index": request["image_index"],
        "width": width,
        "height": height,
        "views": views,
        "text_embeds": inputs["text_embeds"],
    }
    cameras = vectors_to_cameras(vectors, image.width, image.height)
    with Recorder(model) as recorder:
        prepared = prepare(model, cameras, **arguments)
        sampler = FewStepSampler(model.config, model.transformer, model.decoder, model.encoder)
        sampled = sampler.sample(prepared.conditions, prepared.schedule, noise, on_step=recorder.steps.append)
    scene = generate(model, cameras, **arguments, noise=noise)
    assert torch.equal(rows(scene), rows(prepared.finish(sampled)))
    check_run(recorder, model, stages, len(facts["denoising_indices"]))

    # The finished scene seen by the request's own cameras is what the sampler saw in its own frame.
    final = recorder.steps[-1].gaussians
    wanted = render(final, rendering_cameras(stored_conditions(facts, inputs, stages)), near=NEAR, far=FAR).rgb
    error = (render(scene, prepared.cameras).rgb - wanted).abs()
    # Rounding in the turned frame may swap two equally deep splats: single pixels are free.
    assert error.mean() <= 1e-4 and error.quantile(0.999) <= 1e-2
    torch.testing.assert_close(scene.metadata["scene_scale"], float(stages["T_norm"]) + 0.01, rtol=1e-5, atol=0)


def test_normalized_cameras_of_the_dense_path(facts, inputs, stages):
    cameras = vectors_to_cameras(inputs["cameras_dense"], facts["width"], facts["height"])
    vectors, used, frame = normalize_path(cameras, facts["views"])
    torch.testing.assert_close(vectors, stages["cameras_normalized"], rtol=0, atol=1e-5)
    assert len(used) == facts["views"]
    torch.testing.assert_close(frame.scale, float(stages["T_norm"]) + 0.01, rtol=1e-6, atol=0)


def test_text_only_leaves_the_condition_empty(facts, inputs, stages, model, noise):
    schedule = shifted_schedule(facts["shift"]).select(facts["denoising_indices"][:1])
    sampler = FewStepSampler(model.config, model.transformer, model.decoder, model.encoder)
    with Recorder(model) as recorder:
        sampler.sample(stored_conditions(facts, inputs, stages, image=None), schedule, noise)
    assert not recorder.seen["transformer_in"][0][:, model.config.input_layout["condition"]].any()
    expected = stages["text_only/step0/transformer_out"]
    torch.testing.assert_close(recorder.seen["transformer_out"][0], expected, rtol=0, atol=1e-4)
