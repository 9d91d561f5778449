import dataclasses

import numpy as np
import pytest
import torch
from generating import generate, prepare
from small_model import HEIGHT, TEXT_DIM, VIEWS, WIDTH, one_thread, small_model, small_path  # noqa: F401
from torch.testing import assert_close

from flashworld_core import __version__
from flashworld_core.cameras import Cameras
from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.flow.noise import SeededNoise
from flashworld_core.generators.base import Generator
from flashworld_core.generators.flashworld.cameras import normalize_path, path_hash
from flashworld_core.generators.flashworld.conditioning import rendering_cameras
from flashworld_core.generators.flashworld.sampler import FAR, NEAR, FewStepSampler
from flashworld_core.ops.select import budget
from flashworld_core.rendering.render import render

PICTURE = np.zeros((8, 8, 3), np.uint8)
TENSORS = ("means", "quats", "scales", "opacities", "sh")


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def turning_path(views=VIEWS):
    """All cameras in one place, looking to different sides."""
    path = small_path(views)
    pose = path.camera_to_world.clone()
    pose[:, :3, 3] = pose[0, :3, 3]
    return dataclasses.replace(path, camera_to_world=pose)


def short_path(views=VIEWS):
    """Moves of a tenth of a millimeter, a kilometer away from the origin."""
    path = small_path(views)
    pose = path.camera_to_world.double()
    pose[:, :3, 3] = torch.tensor([1000.0, 0, 0]) + 1e-4 * (pose[:, :3, 3] - pose[0, :3, 3])
    return dataclasses.replace(path, camera_to_world=pose, intrinsics=path.intrinsics.double())


@pytest.mark.parametrize(
    "path", [small_path(), small_path(1), small_path(2), turning_path()], ids=["moving", "single", "pair", "turning"]
)
def test_the_users_cameras_see_what_the_sampler_rendered(model, path):
    scene = generate(model, path, prompt="a", steps=1)
    prepared = prepare(model, path, prompt="a", steps=1)
    given = prepared.conditions
    sampler = FewStepSampler(model.config, model.transformer, model.decoder, model.encoder)
    sampled = sampler.sample(given, prepared.schedule, SeededNoise(0))
    scale = scene.metadata["scene_scale"]
    expected = render(sampled, rendering_cameras(given), near=NEAR, far=FAR)
    output = render(scene, path, modes=("rgb", "depth"))
    error = (output.rgb - expected.rgb).abs()
    # The renderer's hard decisions (1/255, depth order) flip in single pixels.
    assert error.mean() < 1e-4 and error.quantile(0.999) < 1e-3, f"mean {error.mean():.2g}, max {error.max():.2g}"
    depth = render(sampled, rendering_cameras(given), near=NEAR, far=FAR, modes=("depth",)).depth * scale
    assert_close(output.depth.mean(), depth.mean(), rtol=1e-3, atol=1e-5)
    assert expected.rgb.std() > 0.02  # there is a picture to be equal


def test_one_constant_scales_splats_and_cameras():
    vectors, _, frame = normalize_path(small_path())
    positions = small_path().positions
    largest = (positions - positions[0]).norm(dim=1).max()
    assert_close(frame.scale, float(largest) + 0.01, rtol=1e-6, atol=0)
    assert_close(vectors[:, 4:7].norm(dim=1) * frame.scale, (positions - positions[0]).norm(dim=1))
    assert_close(frame.translation.float(), positions[0])


def test_paths_that_only_turn_have_unit_scale():
    for path in (turning_path(), small_path(1)):
        vectors, _, frame = normalize_path(path)
        assert frame.scale == 1.0 and not vectors[:, 4:7].any()


def test_short_moves_far_from_the_origin_keep_their_shape():
    path = short_path()
    vectors, _, frame = normalize_path(path)
    moves = (path.positions - path.positions[0]).norm(dim=1)
    assert_close(vectors[:, 4:7].norm(dim=1).double() * frame.scale, moves, rtol=1e-5, atol=1e-9)


def test_a_resampled_path_comes_back_in_world_units():
    path = small_path(3)
    vectors, used, _ = normalize_path(path, 5)
    assert len(vectors) == len(used) == 5
    assert_close(used.camera_to_world[[0, 2, 4]], path.camera_to_world, rtol=0, atol=1e-5)
    assert_close(used.positions[1], path.positions[:2].mean(0), rtol=0, atol=1e-5)
    assert normalize_path(path, 3)[1] is path


def test_metadata_tells_where_a_scene_comes_from(model, image):
    scene = generate(model, small_path(), image=image, prompt="a red box", seed=2**63, steps=(0, 400))
    assert scene.metadata == {
        "generator": "flashworld",
        "model_id": "small",
        "seed": 2**63,
        "prompt_sha256": "d10516c7627081ef",
        "trajectory_sha256": path_hash(small_path()),
        "scene_scale": pytest.approx(normalize_path(small_path())[2].scale),
        "focal_px": pytest.approx(float(small_path().intrinsics[:, [0, 1], [0, 1]].mean())),
        "timestep_indices": [0, 400],
        "version": __version__,
    }
    assert all(isinstance(v, (str, int, float, list)) for v in scene.metadata.values())


def test_path_hashes_tell_paths_apart():
    path = small_path()
    assert path_hash(path) == path_hash(path.to(dtype=torch.float64)) != path_hash(path[1:])
    assert path_hash(path.resized(WIDTH * 2, HEIGHT * 2)) != path_hash(path)
    moved = path.camera_to_world.clone()
    moved[-1, 0, 3] += 1e-3
    assert path_hash(dataclasses.replace(path, camera_to_world=moved)) != path_hash(path)


def test_on_step_shows_the_growing_scene_in_the_users_world(model, image):
    steps = []
    scene = generate(model, small_path(), image=image, steps=2, on_step=steps.append)
    assert [(step.step, step.steps) for step in steps] == [(0, 2), (1, 2)]
    last = steps[-1].gaussians
    assert all(torch.equal(getattr(last, name), getattr(scene, name)) for name in TENSORS)
    assert last.metadata == scene.metadata
    assert not torch.equal(steps[0].gaussians.means, scene.means)
    assert steps[0].preview.shape == (HEIGHT, WIDTH, 3)


def test_a_preview_is_the_part_of_the_scene_that_shows_most(model, image):
    steps = []
    path = small_path()
    scene = generate(model, path, image=image, steps=1, on_step=steps.append)
    some, wanted = steps[-1].most_important(50), budget(scene, 50, path.positions)
    assert len(some) == 50 < len(scene) and some.metadata == scene.metadata
    together = (some.means[:, None] - wanted.means[None]).norm(dim=2).amin(dim=1) < 1e-4
    assert together.float().mean() > 0.9  # ties may fall the other way in the other frame


def test_image_prompt_seed_index_and_steps_each_matter(model, image):
    base = {"image": image, "prompt": "a", "seed": 0, "image_index": 0, "steps": 1}
    first = generate(model, small_path(), **base)
    again = generate(model, small_path(), **base, views_per_chunk=1)
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in TENSORS)
    for change in ({"image": 255 - image}, {"prompt": "bb"}, {"seed": 1}, {"image_index": 3}, {"steps": 2}):
        assert not torch.equal(generate(model, small_path(), **(base | change)).means, first.means), change


def test_an_image_is_cropped_and_cameras_of_its_pixels_follow(model):
    picture = np.random.default_rng(1).random((90, 130, 3), dtype=np.float32)
    original = small_path(width=130, height=90)
    request = prepare(model, original, image=picture, prompt="", image_index=0, width=WIDTH, height=HEIGHT)
    assert (request.cameras.width, request.cameras.height) == (WIDTH, HEIGHT)
    assert request.conditions.image.shape == (3, HEIGHT, WIDTH)
    # 130 x 90 -> 64 x 32: the full width is kept, 65 rows from row 12 on.
    scale = WIDTH / 130
    k, expected = request.cameras.intrinsics[0], original.intrinsics[0]
    assert_close(k[0, 0], expected[0, 0] * scale)
    assert_close(k[1, 2], (expected[1, 2] - 12) * scale)
    assert_close(request.conditions.cameras[0, 7], expected[0, 0] / 130)

    # Cameras already made for the generated size stay as they are, whatever the picture's size.
    request = prepare(model, small_path(), image=picture)
    assert torch.equal(request.cameras.intrinsics, small_path().intrinsics)


def test_size_defaults_to_the_cameras(model):
    request = prepare(model, small_path(width=96, height=64), prompt="a")
    assert (request.conditions.width, request.conditions.height) == (96, 64)
    halved = prepare(model, small_path(width=128, height=64), prompt="a", width=64, height=32)
    assert_close(halved.cameras.intrinsics[0, 0, 0], small_path(width=128, height=64).intrinsics[0, 0, 0] / 2)


def test_views_resamples_the_path(model, image):
    scene = generate(model, small_path(3), image=image, image_index=4, views=5, steps=1)
    rows, columns = model.config.head_grid(HEIGHT, WIDTH)
    assert len(scene) == 5 * model.config.num_points * rows * columns


def test_steps_by_number_by_index_and_by_default(model):
    def indices(steps):
        request = prepare(model, small_path(), prompt="a", steps=steps)
        return request.metadata["timestep_indices"], request.schedule.timesteps.tolist()

    assert indices(None) == indices(4) == ([0, 250, 500, 750], [1000.0, 900.0, 750.0, 500.0])
    assert indices((0, 500)) == indices(2) == ([0, 500], [1000.0, 750.0])
    assert indices(3)[0] == [0, 333, 666]


def test_an_embedding_takes_the_text_encoders_place(model):
    text = torch.randn(1, 4, TEXT_DIM)
    calls = len(model.text.calls)
    given = prepare(model, small_path(), prompt="a", text_embeds=text).conditions.text
    assert len(model.text.calls) == calls
    assert torch.equal(given[:, :4], text) and given.shape[1] == model.config.text_length and not given[:, 4:].any()

    bare = dataclasses.replace(model, text=None)
    assert prepare(bare, small_path(), prompt="a", text_embeds=text).conditions.text.shape == given.shape
    assert prepare(bare, small_path(), text_embeds=text).conditions.text.shape == given.shape  # says enough by itself
    with pytest.raises(FlashWorldError, match=r"loaded without a text encoder"):
        prepare(bare, small_path(), prompt="a")


def test_an_empty_prompt_is_encoded_too(model, image):
    prepare(model, small_path(), image=image)
    assert model.text.calls[-1] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "  "}, "Give an image, a prompt, or both"),
        (
            {"image": PICTURE, "image_index": VIEWS},
            f"image_index {VIEWS} names no view; the path has views 0 to {VIEWS - 1}",
        ),
        ({"image": PICTURE, "image_index": -1}, "image_index -1 names no view"),
        ({"image": PICTURE, "views": 3, "image_index": 3}, "views 0 to 2"),
        ({"views": 0}, "takes 1 to 32 views, got 0"),
        ({"views": 33}, "takes 1 to 32 views, got 33"),
        ({"width": 100}, r"width must be a multiple of 32 \(nearest: 96 or 128\), the height of 32 \(nearest: 32"),
        ({"height": 20}, r"the height of 32 \(nearest: 32\)"),
        ({"height": -32}, "cannot make 64x-32"),
        ({"width": 2048}, "up to 1024x1024"),
        ({"steps": 0}, "steps must be 1..1000"),
        ({"steps": []}, "at least one step"),
        ({"steps": [0, 1000]}, "outside 0..999"),
        ({"seed": -1}, "seed must be in"),
        ({"text_embeds": torch.zeros(1, 3, TEXT_DIM + 1)}, r"text_embeds must be \[1, L, 8\]"),
        ({"text_embeds": torch.zeros(1, 7, TEXT_DIM)}, "has 7 rows, the model takes 6"),
        ({"views_per_chunk": 0}, "views_per_chunk must be at least 1"),
        ({"backend": "vulkan"}, "no rendering backend 'vulkan'"),
    ],
)
def test_wrong_requests_are_answered_in_one_sentence(model, change, message):
    with pytest.raises(FlashWorldError, match=message):
        generate(model, small_path(), **({"prompt": "a"} | change))


def test_an_empty_path_is_refused(model):
    empty = Cameras(torch.zeros(0, 4, 4), torch.zeros(0, 3, 3), WIDTH, HEIGHT)
    with pytest.raises(FlashWorldError, match="camera path is empty"):
        generate(model, empty, prompt="a")


def test_wrong_requests_are_refused_before_any_work(model):
    calls = len(model.text.calls)
    with pytest.raises(FlashWorldError):
        generate(model, small_path(), prompt="a", image=PICTURE, image_index=99)
    with pytest.raises(FlashWorldError):
        generate(model, small_path(), prompt="a", backend="vulkan")
    with pytest.raises(Cancelled):
        generate(model, small_path(), prompt="a", should_stop=lambda: True)
    assert len(model.text.calls) == calls


def test_a_model_is_a_generator(model):
    assert isinstance(model, Generator)
    assert model.info.license == "none" and model.info.name == "flashworld"
    assert not any(p.requires_grad for p in model.transformer.parameters()) and not model.decoder.training


def test_to_changes_precision_but_not_of_what_must_stay_float32():
    model = small_model()
    assert model.to("cpu", torch.bfloat16) is model
    dtypes = {name: p.dtype for name, p in model.transformer.named_parameters()}
    assert dtypes["patch_embedding.weight"] == dtypes["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert dtypes["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    assert dtypes["blocks.0.scale_shift_table"] == torch.float32
    assert {p.dtype for p in model.decoder.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.encoder.parameters()} == {torch.bfloat16}
    model.to(dtype=torch.float32)
    assert {p.dtype for p in model.transformer.parameters()} == {torch.float32}
