"""The training of the embedded model, end to end at a size that takes seconds."""

import dataclasses
import json
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image

from flashworld_core.cameras import Cameras
from flashworld_core.datasets.toyworld.world import ToyWorld
from flashworld_core.errors import FlashWorldError
from flashworld_core.evaluation.harness import evaluate
from flashworld_core.evaluation.metrics import psnr_db
from flashworld_core.formats.cameras import read_cameras
from flashworld_core.generators import load_model
from flashworld_core.generators.flashworld.export import save_folder
from flashworld_core.generators.flashworld.presets import tiny_config
from flashworld_core.models.wan_vae import FrameEncoder
from flashworld_core.training.objectives import rendering as objectives
from flashworld_core.training.objectives.few_step import FewStepTrainer, Recipe, train_generator
from flashworld_core.training.objectives.prepared_scenes import prepare
from flashworld_core.training.objectives.vae import train_vae
from flashworld_core.training.recipes.tiny import build_student, example
from flashworld_core.training.state import Journal, WeightAverage, load_checkpoint, save_atomically, warmup_cosine


def micro_config():
    """`flashworld-tiny`, smaller still: 3 views of 32x48, 8 latent channels."""
    config = tiny_config()
    z = 8
    transformer = dataclasses.asdict(config.transformer) | {
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": z,
        "out_channels": z,
        "ffn_dim": 64,
        "num_layers": 1,
    }
    vae = dataclasses.asdict(config.vae) | {
        "base_dim": 8,
        "decoder_base_dim": 8,
        "z_dim": z,
        "latents_mean": [0.0] * z,
        "latents_std": [1.0] * z,
    }
    return dataclasses.replace(
        config, transformer=transformer, vae=vae, views=3, height=32, width=48, feature_channels=8
    )


@pytest.fixture(scope="module")
def vae_state(tmp_path_factory):
    out = tmp_path_factory.mktemp("vae")
    path = train_vae(micro_config(), out, minutes=0.05, batch=4, workers=0)
    return load_checkpoint(path), out


@pytest.fixture(scope="module")
def parts(vae_state):
    state, _ = vae_state
    base = micro_config()
    config = dataclasses.replace(base, vae=dataclasses.asdict(base.vae) | state["vae_config"])
    encoder = FrameEncoder(config.vae)
    encoder.load_state_dict(state["encoder"])
    torch.manual_seed(0)
    student, tokenizer = build_student(config)
    student.start_from_vae(state["decoder"])
    return config, encoder, student, tokenizer


def test_the_autoencoder_learns_and_keeps_its_statistics(vae_state):
    state, out = vae_state
    assert (out / "vae.jsonl").exists() or state  # short runs may end before the first report
    assert len(state["vae_config"]["latents_mean"]) == 8
    assert all(std > 0 for std in state["vae_config"]["latents_std"])
    assert state["encoder"]["quant_conv.weight"][8:].abs().max() == 0  # the posterior is its mean


def test_prepared_distances_are_those_of_the_world(parts):
    config = parts[0]
    sample = ToyWorld(config.views, config.width, config.height).sample(3, "train", novel_views=2)
    scene = prepare(sample, config)
    assert scene.images.shape == (5, 32, 48, 3) and scene.cameras.shape == (5, 11)
    # The point at the prepared distance along a normalized ray is the point the depth map names, scaled.
    from flashworld_core.generators.flashworld.cameras import camera_rays

    origins, directions = camera_rays(scene.cameras[:3], *config.head_grid(32, 48))
    points = origins[:, None, None] + scene.log_distance.exp()[..., None] * directions
    first = sample.cameras[0]
    x, y = 5, 6  # grid cell; its pixel is the one holding its center, 2 pixels to a cell
    px, py = int((x + 0.5) * 2), int((y + 0.5) * 2)
    z = sample.depth[0, py, px]
    scale = float((sample.cameras.positions - sample.cameras.positions[0]).norm(dim=-1).max()) + 0.01
    k = first.intrinsics[0]
    local = torch.stack([(px + 0.5 - k[0, 2]) / k[0, 0] * z, (py + 0.5 - k[1, 2]) / k[1, 1] * z, z]) / scale
    assert torch.allclose(points[0, y, x] * torch.tensor([1.0, -1.0, -1.0]), local, atol=0.1 * float(local.norm()))
    assert torch.isclose(points[0, y, x].norm(), local.norm(), rtol=1e-4)


def test_the_untrained_student_believes_in_the_picture(parts):
    """Its first step returns the condition's latents for the frame that shows the picture, more or less."""
    config, encoder, student, tokenizer = parts
    trainer = FewStepTrainer(config, encoder, student, tokenizer, Recipe())
    from flashworld_core.generators.flashworld.conditioning import Conditions

    scene = prepare(ToyWorld(3, 48, 32).sample(5, "train", novel_views=1), config)
    with torch.no_grad():
        z = trainer.encode(scene.images[:3])
        conditions = Conditions(scene.cameras[:3], 48, 32, trainer.text_rows("a red box"), image_index=1)
        network_input = trainer.sampler.assemble_constants(conditions, z[0, :, 1], torch.device("cpu"))
        x = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        trainer.sampler.assemble_variables(network_input, x, None)
        predicted = trainer.step(conditions, 0, network_input, x, scene.cameras).latents_2d
    shown, noise = z[0, :, 1].flatten(), x[0, :, 1].flatten()
    found = predicted[0, :, 1].flatten()
    likeness = torch.corrcoef(torch.stack([found, shown]))[0, 1]
    assert likeness > 0.6
    assert likeness > torch.corrcoef(torch.stack([found, noise]))[0, 1].abs() + 0.3


def test_a_short_run_improves_saves_resumes_and_exports(parts, tmp_path):
    config, encoder, student, tokenizer = parts
    recipe = Recipe(minutes=0.12, workers=0, lr=2e-3, warmup=5, single_step_until=0.5, novel_views=1, text_only=0.3)
    path = train_generator(config, encoder, student, tokenizer, recipe, tmp_path)
    state = load_checkpoint(path)
    assert state["updates"] > state["scenes"] > 3  # later scenes went through all four steps
    again = dataclasses.replace(recipe, minutes=state["seconds"] / 60 + 0.02)
    train_generator(config, encoder, student, tokenizer, again, tmp_path, resume=path)
    assert load_checkpoint(path)["updates"] > state["updates"]

    folder = save_folder(
        tmp_path / "model", config, transformer=student.transformer, recon_decoder=student.recon_decoder, vae=encoder,
        text_encoder=student.text_encoder, tokenizer=tokenizer, dtype=torch.float16, compute_dtype="float32",
    )  # fmt: skip
    figures = evaluate(load_model(folder), scenes=2, novel_views=1)
    assert 5 < figures["input_view_psnr_db"] < 60
    assert {"novel_views_psnr_db", "novel_views_psnr_db_mean_color", "per_scene"} <= set(figures)
    json.dumps(figures)


def test_training_lowers_the_loss(parts):
    config, encoder, student, tokenizer = parts
    trainer = FewStepTrainer(config, encoder, student, tokenizer, Recipe(text_only=0.0))
    scene = prepare(ToyWorld(3, 48, 32).sample(11, "train", novel_views=1), config)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    losses = []

    def update(loss):
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for i in range(12):
        torch.manual_seed(i)
        trainer.train_scene(scene, 1, random.Random(0), update, _Silent())
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


class _Silent:
    def add(self, **values):
        pass


def test_example_is_reproducible(tmp_path):
    from flashworld_core.cli.demo import EXAMPLE

    example(tmp_path)
    assert json.loads((tmp_path / "example.json").read_text()) == json.loads((EXAMPLE / "example.json").read_text())
    made, shipped = (read_cameras(folder / "cameras.json") for folder in (tmp_path, EXAMPLE))
    assert torch.allclose(made.camera_to_world, shipped.camera_to_world, atol=1e-5)
    assert torch.allclose(made.intrinsics, shipped.intrinsics, atol=1e-3)
    pictures = [np.asarray(Image.open(folder / "picture.png"), dtype=np.int16) for folder in (tmp_path, EXAMPLE)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.1


def test_schedule_of_the_learning_rate():
    assert warmup_cosine(0, 100, 10) == pytest.approx(0.1)
    assert warmup_cosine(10, 100, 10) == pytest.approx(1.0)
    assert warmup_cosine(100, 100, 10, floor=0.02) == pytest.approx(0.02)
    values = [warmup_cosine(step, 100, 10) for step in range(10, 101)]
    assert all(b <= a for a, b in zip(values, values[1:], strict=False))


def test_the_average_follows_the_weights():
    layer = torch.nn.Linear(1, 1)
    average = WeightAverage(layer, 0.9)
    with torch.no_grad():
        layer.weight.fill_(5.0)
    for _ in range(200):
        average.update(layer)
    assert average.average.weight.item() == pytest.approx(5.0, abs=1e-3)


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "state.pt"
    save_atomically({"a": 1}, path)
    with pytest.raises(Exception):  # noqa: B017 - whatever pickling raises
        save_atomically({"a": lambda: 0}, path)
    assert load_checkpoint(path) == {"a": 1}


def test_the_journal_writes_means(tmp_path):
    journal = Journal(tmp_path / "log.jsonl", every=2)
    journal.add(loss=1.0)
    journal.report(1)
    journal.add(loss=3.0)
    journal.report(2, updates=7)
    row = json.loads((tmp_path / "log.jsonl").read_text())
    assert row["loss"] == 2.0 and row["updates"] == 7


def test_psnr_of_known_errors():
    target = torch.zeros(2, 4, 4, 3)
    image = torch.stack([torch.full((4, 4, 3), 0.1), torch.full((4, 4, 3), 3.0)])
    assert torch.allclose(psnr_db(image, target), torch.tensor([20.0, 0.0]), atol=1e-4)


def test_losses_are_zero_only_at_the_truth():
    image = torch.rand(2, 6, 6, 3)
    assert objectives.rendering_loss(image, image, floor=0.0) == 0
    assert objectives.image_gradient_loss(image + 0.3, image) < 1e-6  # a flat offset is none of its business
    assert objectives.image_gradient_loss(image.flip(1), image) > 0.01
    means = torch.zeros(1, 2, 3, 3, 3)
    means[..., 2] = -2.0
    right = torch.full((1, 3, 3), math.log(2.0))
    assert objectives.distance_loss(means, torch.zeros(1, 3), right) == 0
    assert objectives.distance_loss(means, torch.zeros(1, 3), right + 1) > 0


def test_what_a_camera_sees():
    k = torch.tensor([[[10.0, 0, 10], [0, 10, 5], [0, 0, 1]]])
    camera = Cameras(torch.eye(4)[None], k, 20, 10)
    log_distance = torch.full((5, 10), math.log(2.0))
    points = torch.tensor([[0.0, 0, 1], [0, 0, 2.05], [0, 0, 2.3], [0, 0, -1], [3, 0, 1], [0, 1.2, 2]])
    assert objectives.in_sight(points, camera, log_distance).tolist() == [True, True, False, False, False, False]


def test_a_missing_autoencoder_is_named(tmp_path):
    from flashworld_core.training.recipes.tiny import load_vae

    with pytest.raises(FlashWorldError, match="vae.pt is missing"):
        load_vae(tmp_path)
