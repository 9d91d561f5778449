"""Clean Scene: what goes, what stays as it is, what is said, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from flashworld_pack.flashworld_core.errors import FlashWorldError
from flashworld_pack.flashworld_core.gaussians import FIRST_VIEW, Gaussians
from flashworld_pack.flashworld_core.trajectories.comfyui import to_load3d
from flashworld_pack.flashworld_core.trajectories.presets import make_trajectory
from flashworld_pack.nodes import sockets
from flashworld_pack.nodes.clean import CleanScene

METADATA = {"generator": "flashworld", "seed": 5, "scene_scale": 1.5}


def scene(n=1000):
    """Spread evenly over a cube of side 4 about (0, 0, 4); opacities rise from 0 to 1 with the index."""
    g = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.rand(n, 3, generator=g) * 4 + torch.tensor([-2.0, -2, 2]),
        torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=1),
        torch.rand(n, 3, generator=g) * 0.01 + 0.001,
        torch.linspace(0, 1, n),
        torch.randn(n, 9, 3, generator=g),
        dict(METADATA),
    )


def clean(start, **values):
    splat = CleanScene.execute(sockets.splat_from_gaussians(start), **values)[0]
    return sockets.gaussians_from_splat(splat)


def said(host):
    return host.server.texts[-1][0]


def test_every_input_says_what_it_does(host):
    schema = CleanScene.GET_SCHEMA()
    assert [i.id for i in schema.inputs] == [
        "splat", "min_opacity", "max_size", "crop", "center_x", "center_y", "center_z", "size_x", "size_y", "size_z",
        "surroundings", "max_gaussians", "max_distance", "trajectory",
    ]  # fmt: skip
    assert all(len(thing.tooltip) > 15 for thing in (*schema.inputs, *schema.outputs))
    assert schema.outputs[0].id != "splat" and schema.outputs[0].display_name == "splat"


def test_rows_stay_whole_in_order_and_metadata_stays(host):
    start = scene()
    kept = clean(start, min_opacity=0.5)
    assert len(kept) == 500 and said(host) == "Kept 500 of 1,000 Gaussians. Removed: 500 too faint."
    for field in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(kept, field), getattr(start, field)[500:]), field
    assert kept.metadata == METADATA


def test_nothing_to_do_changes_nothing(host):
    start = scene()
    kept = clean(start, min_opacity=0.0)
    assert torch.equal(kept.means, start.means) and said(host) == "Kept 1,000 of 1,000 Gaussians."


def test_broken_ones_always_go(host):
    start = scene()
    for i, field in enumerate(("means", "quats", "scales", "opacities", "sh")):
        getattr(start, field).view(1000, -1)[i, 0] = float("nan") if i % 2 else float("inf")
    kept = clean(start, min_opacity=0.0)
    assert torch.equal(kept.means, start.means[5:]) and "5 broken (NaN)" in said(host)


def test_oversized_ones_go_whatever_the_unit(host):
    for unit in (0.01, 1.0, 500.0):
        start = scene()
        start.scales[7, 1] = 2.0
        start = dataclasses.replace(start, means=start.means * unit, scales=start.scales * unit)
        kept = clean(start, min_opacity=0.0, max_size=0.5)
        assert len(kept) == 999 and "1 too large" in said(host)
        assert len(clean(start, min_opacity=0.0, max_size=2.0)) == 1000


def test_a_box(host):
    kept = clean(scene(), min_opacity=0.0, crop="box", center_z=3.0, size_x=2.0, size_y=10.0, size_z=2.0)
    assert 0 < len(kept) < 500
    assert float(kept.means[:, 0].abs().max()) <= 1 and float(kept.means[:, 2].max()) <= 4
    assert float(kept.means[:, 1].abs().max()) > 1.5


def test_the_surroundings_of_a_path(host):
    start = scene()
    path = make_trajectory("static", views=2, width=64, height=48, vertical_fov_degrees=30)
    seen = clean(start, min_opacity=0.0, crop="path", trajectory=path)
    assert 50 < len(seen) < 600
    assert float((seen.means[:, 1].abs() / seen.means[:, 2]).max()) < 0.3  # tan(15 degrees), and a little
    wider = clean(start, min_opacity=0.0, crop="path", trajectory=path, surroundings=3.0)
    extra = len(wider) - len(seen)
    assert extra > 0 and said(host).startswith(f"Kept {len(wider):,} of 1,000")
    values = [value for value, _, _ in host.updates]
    assert values[-1] == 1000 and 833 in values  # three steps; the last had two cameras


def test_strays_go_unless_they_are_wanted(host):
    start = scene()
    start.means[:7] = torch.tensor([1e6, 0.0, -2e7])
    kept = clean(start, min_opacity=0.0)
    assert len(kept) == 993 and "7 too far away" in said(host)
    assert len(clean(start, min_opacity=0.0, max_distance=0.0)) == 1000
    assert any("7 Gaussians lie farther away" in str(text) for text in host.server.texts)


def test_at_most_so_many(host):
    start = scene()
    start.scales[:] = 0.01
    kept = clean(start, min_opacity=0.0, max_gaussians=100)
    assert torch.equal(kept.opacities, start.opacities[900:]) and "900 over the limit" in said(host)


def test_near_ones_count_for_what_they_cover(host):
    """Two walls that look alike from the path, the far one of larger Gaussians: half of each stays."""
    start = scene()
    start.means[:, 2], start.opacities[:] = 2.0, 0.9
    start.scales[:] = torch.linspace(0.01, 0.02, 500).repeat(2)[:, None]
    start.means[500:] *= 10
    start.scales[500:] *= 10
    path = make_trajectory("static", views=2, width=64, height=48)
    start.means[:, :2] = 0
    kept = clean(start, max_gaussians=500, trajectory=path)
    assert int((kept.means[:, 2] > 10).sum()) == 250
    assert int((clean(start, max_gaussians=500).means[:, 2] > 10).sum()) == 500  # nobody says from where
    known = dataclasses.replace(start, metadata={FIRST_VIEW: to_load3d(path)})
    assert torch.equal(clean(known, max_gaussians=500).means, kept.means)
    broken = dataclasses.replace(start, metadata={FIRST_VIEW: {"position": "here"}})
    assert len(clean(broken, max_gaussians=500)) == 500


def test_steps_add_up(host):
    start = scene()
    start.means[0] = float("nan")
    kept = clean(start, min_opacity=0.1, crop="box", center_z=4, size_x=3.0, size_y=3, size_z=3, max_gaussians=50)
    assert len(kept) == 50
    numbers = [int(word) for word in said(host).partition("Removed: ")[2].split() if word.isdigit()]
    assert sum(numbers) == 950 and numbers[0] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_opacity": 2.0}, "the last 1,000 Gaussians are too faint. Lower min_opacity"),
        ({"max_size": 1e-7}, "are too large. Raise max_size"),
        ({"crop": "box", "center_x": 100.0}, "outside of the crop. Move or enlarge the box"),
        ({"crop": "box", "size_y": 0.0}, "size above 0"),
        ({"crop": "box", "size_y": float("nan")}, "size above 0"),
        ({"crop": "box", "center_x": float("nan")}, "must not exceed"),
        ({"crop": "path"}, "no camera path is connected"),
        ({"crop": "path", "trajectory": 3}, "needs a camera path"),
        ({"crop": "sphere"}, "crop must be one of none, box, path"),
    ],
)
def test_wrong_values_name_the_node_and_the_remedy(host, values, message):
    with pytest.raises(FlashWorldError, match=f"^Clean Scene: .*{message}"):
        clean(scene(), **{"min_opacity": 0.0, **values})


def test_a_scene_of_nan_only(host):
    start = scene()
    start.means[:] = float("nan")
    with pytest.raises(FlashWorldError, match="^Clean Scene: nothing would be left.*broken .NaN.*node that made it"):
        clean(start)
    with pytest.raises(FlashWorldError, match="^Clean Scene: the scene is empty"):
        clean(scene()[:0])


def test_cancel(host):
    host.management.interrupted = True
    with pytest.raises(host.management.InterruptProcessingException):
        clean(scene())
