import dataclasses
import gc

import pytest
import torch
from small_model import HEIGHT, VIEWS, WIDTH, one_thread, small_model, small_path  # noqa: F401
from torch.testing import assert_close

from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.flow.noise import SeededNoise
from flashworld_core.flow.schedule import shifted_schedule
from flashworld_core.generators.flashworld import sampler as sampler_module
from flashworld_core.generators.flashworld.cameras import normalize_path, raymaps
from flashworld_core.generators.flashworld.conditioning import Conditions, rendering_cameras
from flashworld_core.generators.flashworld.sampler import FAR, NEAR, FewStepSampler, preview_image
from flashworld_core.progress import Progress
from flashworld_core.rendering.render import render
from flashworld_core.runtime.stages import OffloadStages, ResidentStages

SCHEDULE = shifted_schedule(3.0).select((0, 250, 500))
TENSORS = ("means", "quats", "scales", "opacities", "sh")


@pytest.fixture(scope="module")
def model():
    return small_model()


def conditions(views=VIEWS, image=True, image_index=2):
    generator = torch.Generator().manual_seed(11)
    vectors = normalize_path(small_path(views))[0]
    text = torch.randn(1, 6, 8, generator=generator)
    pixels = torch.rand(3, HEIGHT, WIDTH, generator=generator) * 2 - 1
    return Conditions(vectors, WIDTH, HEIGHT, text, pixels if image else None, image_index if image else 0)


def sampler(model, **options):
    return FewStepSampler(model.config, model.transformer, model.decoder, model.encoder, **options)


def equal(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in TENSORS)


class Spy:
    """Counts a module's calls and keeps its inputs while the context lasts."""

    def __init__(self, module, name="forward"):
        self.module, self.name, self.calls = module, name, []

    def __enter__(self):
        original = getattr(self.module, self.name)

        def spied(*args, **kwargs):
            self.calls.append([a.clone() if isinstance(a, torch.Tensor) else a for a in args])
            return original(*args, **kwargs)

        setattr(self.module, self.name, spied)
        return self

    def __exit__(self, *_):
        delattr(self.module, self.name)


@torch.no_grad()
def obvious_run(model, given, schedule, seed):
    """The loop written down once more: all views at once, channels by torch.cat. Returns Gaussians of each step."""
    config, noise = model.config, torch.Generator().manual_seed(seed)
    c, t = config.latent_channels, len(given.cameras)
    h, w = config.latent_size(given.height, given.width)
    mean, std = (torch.tensor(getattr(config.vae, f"latents_{name}")).view(1, c, 1, 1) for name in ("mean", "std"))

    def encode(images, n):
        moments = model.encoder.moments(images)
        sample = moments[:, :c] + torch.exp(moments[:, c:].clamp(-30, 20) / 2) * n
        return (sample - mean) / std

    n = torch.randn(c, h, w, generator=noise)
    condition = torch.zeros(t, c, h, w)
    if given.image is not None:
        condition[given.image_index] = encode(given.image[None], n[None])[0]
    x = torch.randn(1, c, t, h, w, generator=noise)[0].transpose(0, 1)
    features, latents = torch.zeros(t, config.feature_channels, h, w), torch.zeros(t, c, h, w)
    rays, scenes = raymaps(given.cameras, h, w), []
    for i, (sigma, timestep) in enumerate(zip(schedule.sigmas, schedule.timesteps, strict=True)):
        stacked = torch.cat((x, rays, condition, features, latents), 1)
        v, features = model.transformer(stacked.transpose(0, 1)[None], timestep[None], given.text)
        features = features[0].transpose(0, 1)
        clean = x - sigma * v[0].transpose(0, 1)
        parts = model.decoder.gaussians_from_raw(model.decoder(features, clean * std + mean), given.cameras)
        scenes.append(tuple(part.flatten(0, 3) for part in parts))
        if i + 1 < len(schedule):
            from flashworld_core.gaussians import Gaussians

            rgb = render(Gaussians(*scenes[-1]), rendering_cameras(given), near=NEAR, far=FAR).rgb
            n = torch.randn(t, c, h, w, generator=noise)
            latents = encode((rgb * 2 - 1).clamp(-1, 1).permute(0, 3, 1, 2), n)
            n = torch.randn(1, c, t, h, w, generator=noise)[0].transpose(0, 1)
            x = schedule.sigmas[i + 1] * n + (1 - schedule.sigmas[i + 1]) * latents
    return scenes


@pytest.mark.parametrize("image", [True, False])
def test_the_loop_is_the_obvious_one(model, image):
    given, steps = conditions(image=image), []
    scene = sampler(model).sample(given, SCHEDULE, SeededNoise(4), on_step=steps.append)
    expected = obvious_run(model, given, SCHEDULE, 4)
    assert [step.index for step in steps] == list(range(len(SCHEDULE)))
    assert [step.sigma for step in steps] == SCHEDULE.sigmas.tolist()
    for step, parts in zip(steps, expected, strict=True):
        for name, part in zip(TENSORS, parts, strict=True):
            error = (getattr(step.gaussians, name) - part).abs()
            # The renderer's hard decisions may turn a last bit into a visible one, in single pixels.
            assert error.mean() < 1e-4 and error.max() < 1e-2, (step.index, name)
    assert equal(scene, steps[-1].gaussians)
    assert scene.opacities.std() > 0.01 and scene.means.std() > 0.1  # something is there to be compared


def test_same_seed_same_scene_for_any_chunk(model):
    given = conditions()
    first = sampler(model).sample(given, SCHEDULE, SeededNoise(0))
    for chunk in (1, 2, 3, VIEWS, 50):
        assert equal(sampler(model, views_per_chunk=chunk).sample(given, SCHEDULE, SeededNoise(0)), first), chunk
    assert not equal(sampler(model).sample(given, SCHEDULE, SeededNoise(1)), first)


def test_random_draws_come_in_the_documented_order(model):
    class Recorder(SeededNoise):
        def __init__(self):
            super().__init__(0)
            self.draws = []

        def draw(self, name, shape):
            self.draws.append((name, tuple(shape)))
            return super().draw(name, shape)

    c, h, w = 4, 2, 4
    expected = [("image_posterior", (c, h, w)), ("init", (1, c, VIEWS, h, w))]
    for n in range(len(SCHEDULE) - 1):
        expected += [(f"render_posterior_{n}", (VIEWS, c, h, w)), (f"renoise_{n + 1}", (1, c, VIEWS, h, w))]
    for image in (True, False):
        noise = Recorder()
        sampler(model, views_per_chunk=2).sample(conditions(image=image), SCHEDULE, noise)
        assert noise.draws == expected


def test_text_only_starts_from_the_same_noise_with_an_empty_condition(model):
    layout, inputs = model.config.input_layout, []
    for image in (True, False):
        with Spy(model.transformer) as spy:
            sampler(model).sample(conditions(image=image), SCHEDULE.select([0]), SeededNoise(0))
        inputs.append(spy.calls[0][0])
    with_image, without = inputs
    assert torch.equal(with_image[:, layout["noisy"]], without[:, layout["noisy"]])
    shown = with_image[:, layout["condition"]].abs().sum((0, 1, 3, 4)) > 0
    assert shown.tolist() == [view == 2 for view in range(VIEWS)]
    assert not without[:, layout["condition"]].any()
    for x in inputs:
        assert not x[:, layout["feedback_features"]].any() and not x[:, layout["feedback_latents"]].any()


@pytest.mark.parametrize(("views", "steps"), [(1, 1), (1, 2), (2, 1), (3, 4)])
def test_any_number_of_views_and_steps_and_no_render_after_the_last(model, views, steps):
    given = conditions(views, image_index=views - 1)
    with Spy(model.encoder, "moments") as encodes, Spy(model.transformer) as passes, Spy(model.decoder) as decodes:
        scene = sampler(model).sample(given, shifted_schedule().evenly(steps), SeededNoise(0))
    assert len(passes.calls) == steps
    assert sum(len(call[0]) for call in decodes.calls) == steps * views
    assert sum(len(call[0]) for call in encodes.calls) == 1 + (steps - 1) * views
    rows, columns = model.config.head_grid(HEIGHT, WIDTH)
    assert len(scene) == views * model.config.num_points * rows * columns


def test_progress_reaches_its_total_and_shows_each_step(model):
    calls, given = [], conditions()
    sampler(model, views_per_chunk=2).sample(
        given,
        SCHEDULE,
        SeededNoise(0),
        progress=Progress(lambda done, total, preview=None: calls.append((done, total, preview))),
    )
    done = [call[0] for call in calls]
    assert done == sorted(done) and done[-1] == calls[0][1] and {call[1] for call in calls} == {done[-1]}
    assert len(calls) >= len(SCHEDULE) * (1 + 3) + (len(SCHEDULE) - 1) * 6  # one per pass and chunk of two views
    previews = [call[2] for call in calls if call[2] is not None]
    assert len(previews) == len(SCHEDULE)
    for preview in previews:
        assert preview.shape == (HEIGHT, WIDTH, 3) and preview.dtype == torch.float32 and preview.device.type == "cpu"
        assert preview.min() >= 0 and preview.max() <= 1
    assert not torch.equal(previews[0], previews[-1])


def test_the_preview_shows_the_path_from_first_to_last_view(model):
    for views in (2, VIEWS):
        given = conditions(views, image_index=0)
        scene = sampler(model).sample(given, SCHEDULE.select([0]), SeededNoise(0))
        preview = preview_image(scene, given)
        assert preview.shape == (HEIGHT, WIDTH, 3)
        cameras = rendering_cameras(given)
        if views == VIEWS:
            cameras = cameras.resized(WIDTH // 2, HEIGHT // 2)
            rgb = render(scene, cameras, near=NEAR, far=FAR).rgb.clamp(0, 1)
            assert_close(preview[: HEIGHT // 2, : WIDTH // 2], rgb[0], rtol=0, atol=1e-5)
            assert_close(preview[HEIGHT // 2 :, WIDTH // 2 :], rgb[-1], rtol=0, atol=1e-5)
        else:
            assert_close(preview, render(scene, cameras, near=NEAR, far=FAR).rgb[1].clamp(0, 1), rtol=0, atol=1e-5)


def tensors_alive():
    gc.collect()
    return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())


def test_stopping_anywhere_leaves_nothing_behind(model):
    given, schedule = conditions(views=2, image_index=1), SCHEDULE.select([0, 1])
    weights = [p.clone() for p in model.transformer.parameters()]
    asked = []
    first = sampler(model).sample(given, schedule, SeededNoise(0))  # libraries' own caches are filled now
    before = tensors_alive()
    run = sampler(model, views_per_chunk=1)
    run.sample(given, schedule, SeededNoise(0), progress=Progress(should_stop=lambda: bool(asked.append(1))))
    assert len(asked) >= 2 * (1 + 2) + 2 + 2  # every pass and every chunk
    assert tensors_alive() == before
    last = len(asked) - 1
    for point in sorted({0, 1, 3, last // 2, last - 3, last}):
        left = [point]

        def stop(left=left):
            left[0] -= 1
            return left[0] < 0

        with pytest.raises(Cancelled):
            run.sample(given, schedule, SeededNoise(0), progress=Progress(lambda *_: None, stop))
        assert tensors_alive() == before, f"stopped at question {point}"
    assert all(torch.equal(a, b) for a, b in zip(weights, model.transformer.parameters(), strict=True))
    assert equal(run.sample(given, schedule, SeededNoise(0)), first)


def test_errors_in_callbacks_come_through(model):
    def fail(*_):
        raise RuntimeError("the host is gone")

    for callback in ({"progress": Progress(fail)}, {"on_step": fail}, {"progress": Progress(should_stop=fail)}):
        with pytest.raises(RuntimeError, match="the host is gone"):
            sampler(model).sample(conditions(), SCHEDULE, SeededNoise(0), **callback)


def test_no_gradients_and_no_inference_tensors(model):
    scene = sampler(model).sample(conditions(), SCHEDULE.select([0]), SeededNoise(0))
    for name in TENSORS:
        tensor = getattr(scene, name)
        assert not tensor.requires_grad and not tensor.is_inference() and tensor.dtype == torch.float32
    scene.means.requires_grad_()  # a scene can be refined by optimization
    scene.means.sum().backward()


def test_bfloat16_networks_keep_float32_latents_and_gaussians(model):
    steps, given = [], conditions()
    exact = sampler(model).sample(given, SCHEDULE, SeededNoise(0))
    half = small_model().to(dtype=torch.bfloat16)
    with Spy(half.transformer) as spy:
        scene = sampler(half).sample(given, SCHEDULE, SeededNoise(0), on_step=steps.append)
    assert {call[0].dtype for call in spy.calls} == {torch.bfloat16}
    assert {call[1].dtype for call in spy.calls} == {torch.float32}
    for step in steps:
        assert step.latents_2d.dtype == torch.float32
        assert step.latents_3d is None or step.latents_3d.dtype == torch.float32
    for name in TENSORS:
        a, b = getattr(exact, name), getattr(scene, name)
        assert b.dtype == torch.float32
        assert (a - b).square().mean().sqrt() < 0.1 * a.std() + 0.02, name
    assert not equal(exact, scene)


def test_numbers_that_are_not_finite_are_refused_by_the_stage_they_come_from(model, monkeypatch):
    def broken(change):
        made = small_model()
        with torch.no_grad():
            change(made)
        return sampler(made)

    def run(sampled, image=False):
        sampled.sample(conditions(image=image), SCHEDULE, SeededNoise(0))

    in_float32 = "gave numbers that are not finite in float32; use bfloat16 or float32"
    with pytest.raises(FlashWorldError, match=f"The Gaussian decoder {in_float32}"):
        run(broken(lambda made: made.decoder.gs_head.gs_proj.bias[0].fill_(torch.nan)))
    with pytest.raises(FlashWorldError, match=f"The transformer {in_float32}"):
        run(broken(lambda made: made.transformer.proj_out.bias[0].fill_(torch.inf)))
    for with_image in (True, False):
        with pytest.raises(FlashWorldError, match=f"The VAE encoder {in_float32}"):
            run(broken(lambda made: made.encoder.quant_conv.bias[0].fill_(torch.nan)), with_image)

    def render(*given, **options):
        images = original(*given, **options)
        images.rgb[0, 0, 0, 0] = torch.nan
        return images

    original = sampler_module.render
    monkeypatch.setattr(sampler_module, "render", render)
    with pytest.raises(FlashWorldError, match="The renderer gave numbers that are not finite; use"):
        run(sampler(model))


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_chunk_without_views_is_refused(model, chunk):
    with pytest.raises(FlashWorldError, match="views_per_chunk must be at least 1"):
        sampler(model, views_per_chunk=chunk)


def test_stages_are_entered_one_network_at_a_time(model):
    entered, open_now = [], []

    class Recorder(OffloadStages):
        def __call__(self, name):
            context = super().__call__(name)

            class Watched:
                def __enter__(self):
                    entered.append(name)
                    open_now.append(name)
                    assert len(set(open_now) - {"renderer"}) <= 1, open_now
                    return context.__enter__()

                def __exit__(self, *error):
                    open_now.remove(name)
                    return context.__exit__(*error)

            return Watched()

    given = conditions()
    expected = sampler(model).sample(given, SCHEDULE.select([0, 1]), SeededNoise(0))
    scene = sampler(model, stages=Recorder(model.networks, "cpu")).sample(
        given, SCHEDULE.select([0, 1]), SeededNoise(0)
    )
    assert equal(scene, expected)
    step = ["transformer", "renderer", "decoder"]
    assert entered == ["encoder", *step, "renderer", "encoder", *step]
    assert not open_now


@pytest.mark.parametrize("failing", ["encoder", "transformer", "decoder", "renderer"])
def test_a_stage_that_fails_is_done_again_as_its_stages_say(model, failing):
    given, schedule, told, entered = conditions(), SCHEDULE.select([0, 1]), [], []
    expected = sampler(model).sample(given, schedule, SeededNoise(0))

    class Short(ResidentStages):
        def __call__(self, name):
            entered.append(name)
            if name == failing and entered.count(name) in (2, 3):
                raise MemoryError("no room")
            return super().__call__(name)

        def recover(self, name, error, chunk):
            told.append((name, str(error), chunk))
            return max(chunk // 2, 1)

    calls = []
    run = sampler(model, stages=Short(model.networks), views_per_chunk=4)
    scene = run.sample(
        given, schedule, SeededNoise(0), progress=Progress(lambda done, total, preview: calls.append((done, total)))
    )
    assert equal(scene, expected)
    chunk = [chunk for _, _, chunk in told]
    assert chunk == [4, 2] if failing != "transformer" else len(chunk) == 2, told
    assert all(message == "no room" for _, message, _ in told)
    assert calls[-1][0] == calls[-1][1]  # what was done twice counts once


def test_an_error_stands_where_the_stages_do_not_recover(model):
    class Short(ResidentStages):
        def __call__(self, name):
            raise MemoryError("no room")

    class Unrecovered(Short):
        def recover(self, name, error, chunk):
            return None

    for stages in (Short(model.networks), Unrecovered(model.networks)):
        with pytest.raises(MemoryError):
            sampler(model, stages=stages).sample(conditions(), SCHEDULE.select([0]), SeededNoise(0))


def test_offloading_brings_parts_in_and_takes_them_out_even_on_errors():
    moves = []

    class Part:
        def __init__(self, name):
            self.name = name

        def to(self, device):
            moves.append((self.name, str(device)))

    stages = OffloadStages({"decoder": Part("decoder"), "encoder": Part("encoder")}, "meta", resident=["encoder"])
    with pytest.raises(Cancelled), stages("decoder") as device:
        assert device == torch.device("meta") and moves == [("decoder", "meta")]
        raise Cancelled
    with stages("encoder"), stages("renderer") as device:
        assert device == torch.device("meta")
    assert moves == [("decoder", "meta"), ("decoder", "cpu"), ("encoder", "meta")]


def test_rendering_cameras_look_along_minus_z_of_the_normalized_frame(model):
    given = conditions()
    camera = rendering_cameras(dataclasses.replace(given, cameras=given.cameras[:1]))
    # The first camera is the frame's origin; its OpenCV axes are x, -y and -z of the OpenGL world.
    assert_close(camera.camera_to_world[0], torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])), rtol=0, atol=1e-6)
