"""Generate Scene: the core's scene on the host's sockets, previews, Cancel, memory, and inputs that do not fit."""

from __future__ import annotations

import json

import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.generators import load_model
from flashworld_pack.flashworld_core.trajectories.comfyui import from_load3d
from flashworld_pack.flashworld_core.trajectories.presets import make_trajectory
from flashworld_pack.nodes import generate, load, preview_stream
from generating import generate as make_scene

VIEWS, WIDTH, HEIGHT = 3, 96, 64
TENSORS = {"positions": "means", "scales": "scales", "rotations": "quats", "sh": "sh"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model(host):
    loaded = load.LoadModel.execute(load.EMBEDDED).result[0]
    host.updates.clear()
    return loaded


@pytest.fixture(scope="module")
def core_model():
    return load_model("tiny")


def path(views=VIEWS, width=WIDTH, height=HEIGHT):
    return make_trajectory("orbit", views=views, amount=20.0, width=width, height=height)


def picture(height=HEIGHT, width=WIDTH):
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(1))


def run_node(model, trajectory=None, prompt="", seed=1, steps=2, image_index=0, **more):
    trajectory = path() if trajectory is None else trajectory
    return generate.Generate.execute(model, trajectory, prompt, seed, steps, image_index, **more).result


def equal(splat, gaussians):
    return all(torch.equal(getattr(splat, a)[0], getattr(gaussians, b)) for a, b in TENSORS.items())


@pytest.mark.parametrize("given", ["image", "prompt", "both"])
def test_the_scene_is_the_cores_own(host, model, core_model, given):
    prompt = "" if given == "image" else "a red cube in a room"
    image = None if given == "prompt" else picture()
    with torch.inference_mode():
        splat, images, camera = run_node(model, prompt=prompt, image=image, image_index=1)
    expected = make_scene(
        core_model, path(), prompt=prompt, image=None if image is None else image[0], image_index=1, seed=1, steps=2
    )
    assert equal(splat, expected) and splat.metadata == expected.metadata | {"camera": camera}
    assert images.shape == (VIEWS, HEIGHT, WIDTH, 3) and 0 <= images.min() < images.max() <= 1
    json.dumps(camera)
    first = from_load3d(camera, WIDTH, HEIGHT)
    torch.testing.assert_close(first.camera_to_world[0], path().camera_to_world[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(first.intrinsics[0], path().intrinsics[0], atol=1e-3, rtol=0)
    ahead = sum((camera["target"][a] - camera["position"][a]) ** 2 for a in "xyz") ** 0.5
    assert 0.05 < ahead < 100


def test_the_same_inputs_give_the_same_scene_in_and_out_of_inference_mode(host, model):
    with torch.inference_mode():
        first, second = (run_node(model, prompt="a")[0] for _ in range(2))
        other = run_node(model, prompt="a", seed=2)[0]
    third = run_node(model, prompt="a")[0]
    assert torch.equal(first.sh, second.sh) and torch.equal(first.sh, third.sh)
    assert not torch.equal(first.sh, other.sh)


def test_the_models_own_number_of_steps_are_its_own_steps(host, model):
    splat = run_node(model, prompt="a", steps=4)[0]
    assert splat.metadata["timestep_indices"] == list(model.model.config.timestep_indices)


def test_the_views_show_the_scene(host, model, core_model):
    """The images are what the core renders at the path: white where nothing is, the scene elsewhere."""
    from flashworld_pack.flashworld_core.rendering.render import render
    from flashworld_pack.nodes.sockets import gaussians_from_splat

    splat, images, _ = run_node(model, image=picture())
    expected = render(gaussians_from_splat(splat), path()).rgb
    assert torch.equal(images, expected.clamp(0, 1)) and images.std() > 0.02


def test_progress_previews_and_texts(host, model):
    run_node(model, prompt="a")
    done = [value for value, _, _ in host.updates]
    assert done == sorted(done) and done[-1] == host.updates[-1][1]
    assert sum(preview is not None for _, _, preview in host.updates) == 2  # one after each step
    texts = [text for text, node in host.server.texts if node == "7"]
    assert "Step 1 of 2" in texts and "Step 2 of 2" in texts and "Gaussians" in texts[-1]


def test_a_preview_node_gets_every_step(host, model, monkeypatch):
    prompt = {"3": {"class_type": "FlashWorld_PreviewScene", "inputs": {}}}
    monkeypatch.setattr(generate.Generate.hidden, "prompt", prompt, raising=False)
    splat = run_node(model, prompt="a")[0]
    events = [data for name, data in host.server.sent if name == preview_stream.EVENT]
    assert [(e["node"], e["step"], e["steps"], e["final"]) for e in events] == [("7", 0, 2, False), ("7", 1, 2, False)]
    assert all(e["total"] == splat.positions.shape[1] and 0 < e["count"] <= e["total"] for e in events)
    assert len(events[0]["cameras"]) == VIEWS
    assert (host.temp / events[1]["file"]["filename"]).stat().st_size > 0


def test_without_a_preview_node_nothing_is_sent(host, model):
    run_node(model, prompt="a", steps=1)
    assert not host.server.sent and not list(host.temp.iterdir())


def test_a_preview_that_fails_stops_nothing(host, model, monkeypatch, caplog):
    prompt = {"3": {"class_type": "FlashWorld_PreviewScene"}, "4": None}
    monkeypatch.setattr(generate.Generate.hidden, "prompt", prompt, raising=False)

    def broken(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr(preview_stream, "send_scene", broken)
    assert run_node(model, prompt="a", steps=1)[0].positions.shape[1] > 0
    assert "disk full" in caplog.text


@pytest.mark.parametrize("after", [1, 5, 8])
def test_cancel_stops_within_a_view(host, model, monkeypatch, after):
    asked = iter(range(after))
    stop = lambda: next(asked, None) is None  # noqa: E731

    def interrupted():
        if stop():
            host.management.interrupted = True
            return True
        return False

    monkeypatch.setattr(host.management, "processing_interrupted", interrupted)
    with pytest.raises(host.management.InterruptProcessingException):
        run_node(model, prompt="a")
    assert not list(host.temp.iterdir()) and not list(host.output.iterdir() if host.output.exists() else [])
    monkeypatch.setattr(host.management, "processing_interrupted", lambda: False)
    assert run_node(model, prompt="a", steps=1)  # the model is as good as before


# --- memory ----------------------------------------------------------------------------------------------------


class Short:
    """Fails with "out of memory" the given times, in one of the model's networks."""

    def __init__(self, monkeypatch, network, times):
        self.left, self.calls = times, 0
        forward = network.forward

        def failing(*args, **options):
            self.calls += 1
            if self.left and self.calls > 1:
                self.left -= 1
                raise torch.OutOfMemoryError("no room")
            return forward(*args, **options)

        monkeypatch.setattr(network, "forward", failing)


def test_out_of_memory_becomes_a_smaller_chunk_one_warning_and_the_same_scene(host, model, monkeypatch):
    expected = run_node(model, prompt="a")[0]
    host.server.texts.clear()
    short = Short(monkeypatch, model.model.decoder, 2)
    seen = []
    stages = type(model.stages(model.plan(VIEWS, HEIGHT, WIDTH), None))
    recover = stages.recover

    def watched(self, name, error, chunk):
        seen.append((name, chunk))
        return recover(self, name, error, chunk)

    monkeypatch.setattr(stages, "recover", watched)
    splat = run_node(model, prompt="a")[0]
    assert short.left == 0 and seen == [("decoder", 3), ("decoder", 1)]
    assert all(torch.equal(getattr(splat, name), getattr(expected, name)) for name in TENSORS)
    texts = [text for text, _ in host.server.texts]
    assert sum("Memory ran out" in text for text in texts) == 1
    assert max(value for value, _, _ in host.updates) == host.updates[-1][1]


@pytest.mark.parametrize("network", ["transformer", "decoder"])
def test_no_memory_for_one_view_says_what_to_change(host, model, monkeypatch, network):
    Short(monkeypatch, getattr(model.model, network), 99)
    with pytest.raises(FlashWorldError, match=r"^Generate Scene \(FlashWorld\): .*out of memory.*fewer views"):
        run_node(model, prompt="a")
    assert not host.management.loaded  # handed back


def test_the_final_views_survive_running_out_of_memory(host, model, monkeypatch):
    from flashworld_pack.flashworld_core.rendering import render as rendering

    expected = run_node(model, prompt="a", steps=1)[1]
    whole, failures = rendering.render, iter([True])

    def short(gaussians, cameras, **options):
        if len(cameras) == VIEWS and options.get("background") == "white" and next(failures, False):
            raise torch.OutOfMemoryError("no room")
        return whole(gaussians, cameras, **options)

    monkeypatch.setattr(rendering, "render", short)
    assert torch.equal(run_node(model, prompt="a", steps=1)[1], expected) and next(failures, None) is None


# --- inputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "connect an image, write a prompt, or both"),
        ({"prompt": "  \n"}, "connect an image, write a prompt, or both"),
        ({"prompt": "a", "image_index": 3}, "image_index 3 names no view; the path has views 0 to 2"),
        ({"prompt": "a", "trajectory": path(width=100)}, r"width must be a multiple of 8 \(nearest: 96 or 104\)"),
        ({"prompt": "a", "trajectory": path(height=50)}, r"the height of 8 \(nearest: 48 or 56\)"),
        ({"prompt": "a", "trajectory": "path"}, "needs a camera path"),
        ({"image": torch.zeros(3, 4)}, "image must be an IMAGE"),
        ({"image": torch.full((1, 64, 96, 3), float("nan"))}, "not finite"),
        ({"conditioning": [[torch.zeros(1, 5, 7), {}]]}, "gives 7 numbers per word, but flashworld-tiny needs 96"),
        ({"conditioning": "text"}, "conditioning input holds no text embedding"),
    ],
)
def test_inputs_that_do_not_fit(host, model, change, message):
    with pytest.raises(FlashWorldError, match=message) as error:
        run_node(model, **change)
    assert str(error.value).startswith(generate.TITLE + ": ") and ": generate:" not in str(error.value)
    assert not host.management.requests  # told before any work


def test_something_else_on_the_model_socket(host):
    with pytest.raises(FlashWorldError, match="from Load FlashWorld Model"):
        run_node("model", prompt="a")


def test_a_model_without_text_encoder_wants_a_conditioning(host, model):
    model.model.text = None
    with pytest.raises(FlashWorldError, match=r"no text encoder.*Load CLIP \(umt5_xxl"):
        run_node(model, image=picture())
    config = model.model.config
    rows = torch.randn(2, config.text_length + 9, config.transformer.text_dim)
    splat = run_node(model, conditioning=[[rows.half(), {}]], steps=1)[0]  # neither image nor prompt
    assert splat.positions.shape[1] > 0


def test_a_conditioning_takes_the_prompts_place(host, model):
    with torch.no_grad():
        embedded = model.model.text.encode("a red cube")
    written, given = run_node(model, prompt="a red cube"), run_node(model, conditioning=[[embedded, {}]])
    assert torch.equal(written[0].sh, given[0].sh)
    assert not any("prompt is not" in text for text, _ in host.server.texts)
    both = run_node(model, prompt="a blue ball", conditioning=[[embedded, {}]])
    assert torch.equal(both[0].sh, given[0].sh)
    assert any("prompt is not" in text for text, _ in host.server.texts)


def test_size_from_the_model(host, model):
    splat, images, camera = run_node(model, path(width=704, height=480), prompt="a", steps=1, size_from="model")
    assert images.shape == (VIEWS, 64, 96, 3) and camera["aspect"] == 1.5
    cropped = torch.rand(1, 50, 40, 3)
    assert run_node(model, path(width=704, height=480), image=cropped, steps=1, size_from="model")[1].shape[1] == 64


def said(host):
    return [text for text, _ in host.server.texts]


def test_a_picture_of_another_shape_is_cropped_and_says_what_would_keep_all(host, model):
    assert run_node(model, image=picture(800, 600), steps=1)[1].shape == (VIEWS, HEIGHT, WIDTH, 3)
    told = (
        "cropped about its center to 600x400, the shape of the views: 50% of it is not used. Views of 72x96 keep all of"
    )
    assert any(told in text for text in said(host))
    host.server.texts.clear()
    run_node(model, path(width=72, height=96), image=picture(800, 600), steps=1)
    assert not any("cropped" in text for text in said(host))


def test_of_a_batch_the_first_picture_is_used_and_says_so(host, model):
    batch = torch.cat([picture(), 1 - picture()])
    splat = run_node(model, image=batch, steps=1)[0]
    assert torch.equal(splat.sh, run_node(model, image=batch[:1], steps=1)[0].sh)
    assert [text for text in said(host) if "batch of 2 pictures; only the first is used. For a scene of each" in text]
    host.server.texts.clear()
    listed = run_node(model, image=[batch[:1], batch[1:]], steps=1)[0]
    assert torch.equal(splat.sh, listed.sh) and any("list of 2 pictures" in text for text in said(host))


def test_a_mask_lays_the_rest_on_white(host, model):
    image = picture()
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[:, 16:48, 24:72] = 1
    masked = run_node(model, image=image, mask=mask, steps=1)[0]
    by_hand = torch.where(mask[..., None] > 0, image, 1.0)
    assert torch.equal(masked.sh, run_node(model, image=by_hand, steps=1)[0].sh)
    assert any("The mask keeps 25 % of the picture; the rest is laid on white." in text for text in said(host))
    small = run_node(model, image=image, mask=mask[0, ::4, ::4], steps=1)[0]  # scaled to the picture
    assert not torch.equal(small.sh, run_node(model, image=image, steps=1)[0].sh)
    run_node(model, prompt="a", mask=mask, steps=1)
    assert any("A mask is connected, but no image" in text for text in said(host))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(1, 64, 96), "keeps nothing.*Invert Mask"),
        (torch.ones(1, 4, 4, 3), "must be a MASK"),
        (torch.full((1, 4, 4), float("nan")), "not finite"),
    ],
)
def test_masks_that_cannot_be_used(host, model, mask, message):
    with pytest.raises(FlashWorldError, match=message):
        run_node(model, image=picture(), mask=mask)


@pytest.mark.parametrize(("views", "told"), [(8, False), (3, True)])
def test_a_path_far_from_training_is_pointed_out(host, model, views, told):
    run_node(model, path(views), prompt="a", steps=1)
    assert any("was trained on 8 of 96x64" in text for text, _ in host.server.texts) == told
