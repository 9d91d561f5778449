"""ToyWorld as a data source: what is held out, what simple scenes are, and that numbers decide everything."""

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.generators.flashworld.presets import nano_config
from flashworld_core.training.flashworld.toyworld import ToyWorldData, is_held_out


def test_a_sample_is_a_function_of_kind_and_number():
    data = ToyWorldData(nano_config(), seed=1, simple=True, hold_out=True)
    first, again = data.sample("multiview", 3, 2), data.sample("multiview", 3, 2)
    assert torch.equal(first.images, again.images) and first.prompt == again.prompt
    assert first.images.shape == (6, 32, 48, 3) and first.cameras.shape == (6, 11)
    assert not torch.equal(first.images, data.sample("multiview", 4, 2).images)
    assert not torch.equal(
        first.images, ToyWorldData(nano_config(), seed=2, simple=True).sample("multiview", 3, 2).images
    )


def test_held_out_pairs_are_in_ood_scenes_only():
    data = ToyWorldData(nano_config(), simple=True, hold_out=True)
    pairs = {
        kind: [[(s.color_word, s.kind) for s in data.scene(kind, i).solids] for i in range(60)]
        for kind in ("multiview", "ood")
    }
    assert not any(is_held_out(*pair) for scene in pairs["multiview"] for pair in scene)
    assert all(any(is_held_out(*pair) for pair in scene) for scene in pairs["ood"])


def test_simple_scenes_have_one_plain_solid_outdoors():
    data = ToyWorldData(nano_config(), simple=True)
    for i in range(20):
        scene = data.scene("multiview", i)
        assert len(scene.solids) == 1 and scene.room is None and scene.ground.kind == "plain"
        assert scene.prompt.startswith("a") and " ground under " in scene.prompt
        assert not set(scene.prompt.split()) & {"striped", "checkered", "mottled", "shaded", "room", "floor"}


def test_unknown_kinds_are_refused():
    with pytest.raises(FlashWorldError, match="multiview and ood"):
        ToyWorldData(nano_config()).sample("video", 0, 0)
