"""TRELLIS as a generator: frame, seeds, steps, cancelling, plans, and input it cannot use."""

import dataclasses

import pytest
import torch
from small_trellis import cutout, small_model

from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.generators import open_model
from flashworld_core.generators.base import Generation, Generator, Request, RunOptions, ViewImage
from flashworld_core.generators.trellis.cameras import object_cameras, points_to_asset, to_world
from flashworld_core.generators.trellis.conditioning import crop_square, cut_out
from flashworld_core.generators.trellis.memory import memory_plan
from flashworld_core.generators.trellis.presets import nano_config, official_config
from flashworld_core.generators.trellis.sampler import voxel_scene
from flashworld_core.progress import Progress
from flashworld_core.rendering.render import render
from flashworld_core.runtime.stages import OffloadStages


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def request_():
    return Request(None, (ViewImage(cutout()),), seed=3)


def test_it_is_a_generator_of_objects(model):
    assert isinstance(model, Generator) and model.info.kind == "object" and model.info.steps == 2


def test_a_seed_gives_one_object_and_another_seed_another(model, request_):
    one, again = model.generate(request_), model.generate(request_)
    other = model.generate(dataclasses.replace(request_, seed=4))
    assert torch.equal(one.gaussians.means, again.gaussians.means) and torch.equal(one.gaussians.sh, again.gaussians.sh)
    assert len(other.gaussians) != len(one.gaussians) or not torch.equal(other.gaussians.means, one.gaussians.means)
    assert one.gaussians.metadata["generator"] == "trellis" and one.gaussians.metadata["seed"] == 3
    assert len(one.gaussians) == one.count and len(one.cameras) == 8
    assert one.gaussians.means.abs().max() <= 0.5 + 0.75 / 16


def test_stages_that_come_and_go_change_nothing(model, request_):
    stages = OffloadStages(model.networks, "cpu")
    made = model.generate(request_, RunOptions(stages=stages)).gaussians
    assert torch.equal(made.means, model.generate(request_).gaussians.means)


def test_every_step_is_shown_and_counted(model, request_):
    steps, reports = [], []
    run = RunOptions(progress=Progress(lambda *a: reports.append(a)), on_step=steps.append)
    made = model.generate(dataclasses.replace(request_, steps=(3, 2)), run)
    assert [step.step for step in steps][-2:] == [3, 4] and all(isinstance(step, Generation) for step in steps)
    assert {step.steps for step in steps} == {5} and steps[-1].count == made.count
    assert reports[-1][0] <= reports[-1][1] and made.preview.shape == (48, 96, 3)
    plain = model.generate(dataclasses.replace(request_, steps=(3, 2)))
    assert torch.equal(plain.gaussians.means, made.gaussians.means) and plain.preview is None


def test_cancel_stops_between_steps(model, request_):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        model.generate(dataclasses.replace(request_, steps=20), RunOptions(progress=Progress(should_stop=stop)))
    assert len(asked) == 4


def test_guidance_changes_the_object_and_zero_is_none(model, request_):
    calls = []
    handle = model.modules["structure_flow"].register_forward_hook(lambda *a: calls.append(1))
    try:
        for guidance, passes in ((0, 2), (3.0, 4), ((3.0, 0.0), 4)):
            calls.clear()
            model.generate(dataclasses.replace(request_, options={"guidance": guidance}))
            assert len(calls) == passes, guidance
    finally:
        handle.remove()


def test_an_empty_structure_is_said(request_):
    model = small_model()
    decoder = model.modules["structure_decoder"].out_layer[-1]
    decoder.weight.zero_(), decoder.bias.fill_(-1)
    with pytest.raises(FlashWorldError, match="No voxel of the object is occupied.*Check the mask"):
        model.generate(request_)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ()}, "exactly one image, got 0"),
        ({"images": (ViewImage(cutout().convert("RGB")),)}, "no transparency and no mask.*give a mask"),
        ({"images": (ViewImage(cutout(), mask=torch.zeros(48, 48)),)}, "The mask shows no object"),
        ({"images": (ViewImage(cutout(), mask=torch.full((4, 4), torch.nan)),)}, "finite numbers"),
        ({"images": (ViewImage("/nowhere.png"),)}, "no such image file"),
        ({"steps": 0}, "steps must be 1..200"),
        ({"steps": (1, 2, 3)}, "one number for both flows or two"),
        ({"options": {"guidance": -1}}, "Guidance must be 0"),
        ({"options": {"guidance": "much"}}, "one number for both flows or two"),
        ({"options": {"speed": 1}}, "takes no option speed"),
    ],
)
def test_what_it_cannot_use(model, request_, change, message):
    with pytest.raises(FlashWorldError, match=message):
        model.generate(dataclasses.replace(request_, **change))


def test_a_prompt_is_said_to_be_ignored(model, request_):
    assert model.check(dataclasses.replace(request_, prompt="a cup")) == [
        "trellis-nano reads no prompt; it is not used."
    ]


def test_the_crop_is_centered_and_over_black():
    from PIL import Image

    image = Image.new("RGBA", (100, 60), (255, 255, 255, 0))
    image.paste((255, 0, 0, 255), (60, 20, 100, 40))  # touches the border: the square reaches beyond the image
    square = crop_square(cut_out(ViewImage(image)), 48)
    inside = square[0] > 0.5
    rows, columns = torch.nonzero(inside, as_tuple=True)
    assert abs(float(rows.float().mean()) - 23.5) < 1.5 and abs(float(columns.float().mean()) - 23.5) < 1.5
    assert 36 <= columns.max() - columns.min() <= 42 and square[:, 0, 0].abs().max() == 0 and square[1:].max() < 0.05


def test_frame_a_point_and_a_camera_there_and_back():
    assert points_to_asset(torch.tensor([1.0, -3.0, 2.0])).tolist() == [1.0, 2.0, 3.0]  # up is -y here, z there
    scene = voxel_scene(torch.tensor([[0, 15, 8, 8], [0, 8, 8, 15], [0, 8, 0, 8]]), 16)
    right, top, front = to_world(scene).means
    assert right[0] > 0.4 and top[1] < -0.4 and front[2] < -0.4  # front of the asset (low y) faces the viewer
    seen = render(to_world(scene), object_cameras(4, 64, 64), modes=("alpha",)).alpha.reshape(4, 64, 64)
    weight = seen[0] / seen[0].sum()
    assert float((weight * torch.arange(64)).sum()) > 32  # the rightmost voxel is on the right of the first view


def test_plans_fit_small_cards():
    plan = memory_plan(official_config(), dtype=torch.float16)
    assert 1.1e9 < plan["structure_flow"].weights < 1.2e9 and 1.1e9 < plan["slat_flow"].weights < 1.3e9
    assert plan.peak(()) < 4e9 and "slat_flow" in plan.table()
    assert open_model("trellis-official").memory_plan(dtype=torch.float16).peak(()) == plan.peak(())
    with pytest.raises(FlashWorldError, match="do not come with this package: get|the folder"):
        open_model("trellis-official").load()
    small = memory_plan(nano_config(), dtype=torch.float32, device_type="cpu")
    assert small.peak() < 1e8
