"""The table of scene formats."""

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.formats.scenes import (
    FORMATS,
    detect_scene,
    format_of_name,
    read_scene,
    scene_info,
    supported_extensions,
    writable_formats,
    write_scene,
)
from flashworld_core.gaussians import Gaussians


def one():
    return Gaussians(torch.zeros(1, 3), torch.eye(4)[:1], torch.ones(1, 3), torch.ones(1) / 2, torch.zeros(1, 4, 3))


@pytest.mark.parametrize("name", ["scene.ply", "SCENE.PLY", "a.b.ply"])
def test_by_extension(tmp_path, name):
    write_scene(tmp_path / name, one(), sh_degree=3)
    assert read_scene(str(tmp_path / name), frame="opencv").sh_degree == 3
    assert scene_info(tmp_path / name)["gaussians"] == 1


@pytest.mark.parametrize("name", ["scene.xyz", "scene", "scene.ply.bak"])
def test_unknown_extensions_list_the_known(tmp_path, name):
    with pytest.raises(FlashWorldError, match=rf"{name}.*scene files can be: .*\.ply"):
        write_scene(tmp_path / name, one())
    for call in (read_scene, scene_info):
        with pytest.raises(FlashWorldError, match=rf"{name}: cannot be read: No such file"):
            call(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_every_registered_format_exists():
    for extension in supported_extensions():
        with pytest.raises(FlashWorldError, match="No such file"):
            read_scene("missing" + extension)


@pytest.mark.parametrize("name", writable_formats())
def test_every_format_is_told_by_content_and_reads_what_it_wrote(tmp_path, name):
    known = FORMATS[name]
    path = tmp_path / ("scene" + known.extensions[0])
    assert format_of_name(path) == name
    write_scene(path, one())
    if known.read is None:
        return
    assert detect_scene(path) == name
    scene = read_scene(path)
    assert len(scene) == scene_info(path)["gaussians"] == 1
    assert torch.allclose(scene.means, torch.zeros(1, 3)) and torch.allclose(scene.scales, torch.ones(1, 3))
    if known.recognizes is not None:  # whatever it is called
        assert detect_scene(path.rename(tmp_path / "scene.bin")) == name


@pytest.mark.parametrize("name", writable_formats())
def test_every_writer_has_the_options_it_lists(tmp_path, name):
    values = {
        "sh_degree": 1, "axes": "y-up", "quality": "high", "version": 2, "level": 0, "normals": True, "seed": 3,
    }  # fmt: skip
    for option in FORMATS[name].options:
        if option in values:
            write_scene(tmp_path / ("a" + FORMATS[name].extensions[0]), one(), **{option: values[option]})
    with pytest.raises(FlashWorldError, match="have no option 'color'"):
        write_scene(tmp_path / ("a" + FORMATS[name].extensions[0]), one(), color=1)
