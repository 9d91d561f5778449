"""Formats that hold nothing but Gaussians say so when that changes the picture."""

from __future__ import annotations

import pytest
import torch

from flashworld_core.formats.scenes import FORMATS, read_scene, scene_info, writable_formats, write_scene
from flashworld_core.gaussians import Gaussians


def scene(metadata):
    g = torch.Generator().manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(300, 4, generator=g), dim=1)
    return Gaussians(
        torch.randn(300, 3, generator=g), quats, torch.rand(300, 3, generator=g) * 0.1 + 0.01,
        torch.rand(300, generator=g) * 0.5 + 0.2, torch.randn(300, 1, 3, generator=g), metadata,
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in writable_formats() if FORMATS[name].read])
def test_the_antialiased_filter_survives_or_its_loss_is_said(tmp_path, name):
    path, told = tmp_path / f"a{FORMATS[name].extensions[0]}", []
    write_scene(path, scene({"filter": "antialiased"}), name, told.append)
    if FORMATS[name].plain:
        assert len(told) == 1 and "cannot say that a scene was made with an antialiased filter" in told[0]
        assert not read_scene(path).metadata.get("filter")
    else:
        assert not told and read_scene(path).metadata["filter"] == scene_info(path)["filter"] == "antialiased"
    told.clear()
    write_scene(path, scene({}), name, told.append)
    assert not told
