"""The registry of scene formats."""

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.formats.scenes import read_scene, scene_info, supported_extensions, write_scene
from flashworld_core.gaussians import Gaussians


def one():
    return Gaussians(torch.zeros(1, 3), torch.eye(4)[:1], torch.ones(1, 3), torch.ones(1) / 2, torch.zeros(1, 4, 3))


@pytest.mark.parametrize("name", ["scene.ply", "SCENE.PLY", "a.b.ply"])
def test_by_extension(tmp_path, name):
    write_scene(tmp_path / name, one(), sh_degree=3)
    assert read_scene(str(tmp_path / name), frame="opencv").sh_degree == 3
    assert scene_info(tmp_path / name)["gaussians"] == 1


@pytest.mark.parametrize("name", ["scene.spz", "scene", "scene.ply.zip"])
def test_unknown_extensions_list_the_known(tmp_path, name):
    for caller, call in (
        ("read_scene", lambda: read_scene(tmp_path / name)),
        ("write_scene", lambda: write_scene(tmp_path / name, one())),
        ("scene_info", lambda: scene_info(tmp_path / name)),
    ):
        with pytest.raises(FlashWorldError, match=rf"{caller}: .*{name}.*scene files can be: \.ply"):
            call()
    assert not list(tmp_path.iterdir())


def test_every_registered_format_exists():
    for extension in supported_extensions():
        with pytest.raises(FlashWorldError, match="No such file"):
            read_scene("missing" + extension)
