"""A second generator, ten lines long and registered by one line, goes through every node and command unchanged."""

from __future__ import annotations

import json
import sys
import types

import pytest
import torch
from flashworld_pack.flashworld_core import generators
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.gaussians import Gaussians
from flashworld_pack.flashworld_core.generators.base import Generation, GeneratorInfo, ModelFile
from flashworld_pack.flashworld_core.runtime.memory import MemoryPlan, StageMemory
from flashworld_pack.flashworld_core.trajectories.presets import make_trajectory
from flashworld_pack.nodes import generate, load, preview_stream
from flashworld_pack.nodes.comfyui import folders
from flashworld_pack.nodes.export import ExportScene
from flashworld_pack.nodes.render import RenderViews

SIZE = {"width": 48, "height": 32}


class Balls:
    """One ball a step, two units ahead of the first camera."""

    info, networks, dtype = GeneratorInfo("balls", "balls-1", "free", 4, 48, 32, steps=2), {}, torch.float32

    def check(self, request):
        if len(request.cameras) > 9:
            raise FlashWorldError("Balls takes up to 9 views; use fewer.")
        return ["Balls are round."]

    def memory_plan(self, *, views, height, width, device_type, views_per_chunk=None, dtype=torch.float32):
        stages = (StageMemory("renderer", 0, 1000 * views, 0),)
        return MemoryPlan(stages, views, height, width, dtype, device_type, views_per_chunk or 1)

    def generate(self, request, run):
        steps = request.steps or self.info.steps
        progress = run.progress.start(steps)
        for step in range(steps):
            progress.check()
            n = step + 1
            means = torch.tensor([[0.5 * i, 0.0, 2.0] for i in range(n)])
            scene = Gaussians(means, torch.eye(4)[:1].repeat(n, 1), torch.full((n, 3), 0.2), torch.ones(n),
                              torch.ones(n, 1, 3), {"generator": "balls", "seed": request.seed})  # fmt: skip
            made = Generation(scene, request.cameras, step, steps, n, torch.zeros(8, 8, 3))
            progress.advance(1, made.preview)
            if run.on_step is not None:
                run.on_step(made)
        return made

    def to(self, device=None, dtype=None):
        return self


def open_balls(path):
    return ModelFile(
        Balls.info,
        lambda **_: Balls(),
        lambda **sizes: Balls().memory_plan(
            **({"views": 4, "height": 32, "width": 48} | {k: v for k, v in sizes.items() if v is not None})
        ),
    )


@pytest.fixture
def balls(host, monkeypatch):
    """The generator in the table, and a model of it in ComfyUI's folder; its name in the loader's list."""
    module = types.ModuleType("balls_generator")
    module.open_model = open_balls
    monkeypatch.setitem(sys.modules, "balls_generator", module)
    monkeypatch.setitem(generators.GENERATORS, "balls", "balls_generator:open_model")
    folder = host.models / "flashworld" / "balls"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"generator": "balls", "config": {}}))
    monkeypatch.setattr(folders, "model_files", lambda: ["balls"])
    monkeypatch.setattr(folders, "model_file", lambda name: folder)
    return folder


def run_generate(loaded, path, **more):
    return generate.Generate.execute(loaded, path, "red", 7, 2, 0, **more).result


def test_loaded_planned_run_previewed_and_exported_by_the_nodes(host, balls, monkeypatch):
    info = load.model_info("balls")
    assert info["license"] == "free" and info["summary"].startswith("balls-1") and info["error"] == "" and info["plan"]
    loaded = load.LoadModel.execute("balls").result[0]
    assert loaded.plan(4, 32, 48).peak(()) == 4000

    prompt = {"3": {"class_type": "FlashWorld_PreviewScene", "inputs": {}}}
    monkeypatch.setattr(generate.Generate.hidden, "prompt", prompt, raising=False)
    splat, images, camera = run_generate(loaded, make_trajectory("orbit", views=3, **SIZE))
    assert images.shape == (3, 32, 48, 3) and images.min() < 0.9 and camera["target"]["z"] < 0
    texts = [text for text, _ in host.server.texts]
    assert {"Balls are round.", "Step 1 of 2", "Step 2 of 2"} <= set(texts)
    events = [data for name, data in host.server.sent if name == preview_stream.EVENT]
    assert [(event["step"], event["total"]) for event in events] == [(0, 1), (1, 2)]

    views = RenderViews.execute(splat, **SIZE, trajectory=make_trajectory("orbit", views=2, **SIZE)).result[0]
    assert views.shape == (2, 32, 48, 3) and views.max() > 0.5
    ExportScene.execute(splat, "balls/ball")
    assert list((host.output / "balls").glob("ball*.ply"))


def test_what_it_refuses_is_said_and_cancel_ends_it(host, balls):
    loaded = load.LoadModel.execute("balls").result[0]
    with pytest.raises(FlashWorldError, match="Generate Scene .*: Balls takes up to 9 views"):
        run_generate(loaded, make_trajectory("orbit", views=10, **SIZE))
    host.management.interrupted = True
    with pytest.raises(host.management.InterruptProcessingException):
        run_generate(loaded, make_trajectory("orbit", views=3, **SIZE))


def test_a_socket_it_does_not_take_is_said(host, balls):
    load.LoadModel.execute("balls", "auto", object(), object())
    texts = "\n".join(text for text, _ in host.server.texts)
    assert "balls-1 takes no vae" in texts and "balls-1 takes no clip" in texts


def test_the_commands_take_it(balls, tmp_path, capsys, monkeypatch):
    """The command line imports the core by its plain name: the same table line there."""
    from flashworld_core import generators as plain
    from flashworld_core.cli import main

    monkeypatch.setitem(plain.GENERATORS, "balls", "balls_generator:open_model")
    out = tmp_path / "out"
    assert main(["plan", "--model", str(balls), "--device", "cpu"]) == 0
    assert "renderer" in capsys.readouterr().out
    assert main(["generate", "--model", str(balls), "--prompt", "red", "--out", str(out), "--no-video"]) == 0
    assert (out / "scene.ply").is_file() and json.loads((out / "report.json").read_text())["model_id"] == "balls-1"
    assert main(["info", str(out / "scene.ply")]) == 0
    assert "balls" in capsys.readouterr().out
