"""Sockets and folders: values cross unchanged, names stay in their folders."""

from __future__ import annotations

import os

import pytest
import torch
from flashworld_pack.flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_pack.flashworld_core.gaussians import Gaussians
from flashworld_pack.nodes import sockets
from flashworld_pack.nodes.comfyui import api, folders, run


def scene(n=5, k=9):
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    quats = torch.nn.functional.normalize(draw(n, 4) - 0.5, dim=-1)
    return Gaussians(draw(n, 3), quats, draw(n, 3), draw(n), draw(n, k, 3), {"seed": 3})


def test_splat_round_trip_keeps_everything():
    before = scene()
    splat = sockets.splat_from_gaussians(before)
    assert splat.positions.shape == (1, 5, 3) and splat.opacities.shape == (1, 5, 1) and splat.sh.shape == (1, 5, 9, 3)
    after = sockets.gaussians_from_splat(splat)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    assert after.metadata == {"seed": 3}


def test_a_padded_batch_gives_the_real_rows_of_its_first_scene():
    whole = sockets.splat_from_gaussians(scene(6))
    twice = api.SPLAT(
        *(torch.cat([t, t]) for t in (whole.positions, whole.scales, whole.rotations, whole.opacities, whole.sh)),
        counts=torch.tensor([4, 6]),
    )
    assert len(sockets.gaussians_from_splat(twice)) == 4


def test_an_empty_scene_is_refused():
    splat = sockets.splat_from_gaussians(scene(3)[:0])
    with pytest.raises(FlashWorldError, match="empty"):
        sockets.gaussians_from_splat(splat)


def test_picture_with_alpha_is_laid_on_white():
    image = torch.zeros(1, 2, 3, 4)
    assert torch.equal(sockets.picture_in(image), torch.ones(2, 3, 3))
    with pytest.raises(FlashWorldError, match="NaN"):
        sockets.picture_in(torch.full((1, 2, 3, 3), float("nan")))


HOSTILE = [
    "/etc/passwd", "../up", "a/../../up", "C:/x", "\\\\server\\x", "~/x", "a\0b", "con", "NUL.txt", "COM1 .txt",
    "sub/LPT1", "x" * 300, "trailing.", "a|b", "", "a\\..\\..\\b", 7, None, ["a"],
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_and_leave_nothing(host, name):
    with pytest.raises(FlashWorldError):
        folders.OutputFile(name, ".ply")
    with pytest.raises(FlashWorldError):
        folders.input_path(name)
    assert os.listdir(host.output) == []


def test_links_out_of_the_folder_are_refused(host, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.json").write_text("{}")
    (host.output / "link").symlink_to(outside)
    (host.input / "link.json").symlink_to(outside / "secret.json")
    with pytest.raises(FlashWorldError, match="leads out"):
        folders.OutputFile("link/scene", ".ply")
    with pytest.raises(FlashWorldError, match="leads out"):
        folders.input_path("link.json")
    assert sorted(p.name for p in outside.iterdir()) == ["secret.json"]


def test_output_names_count_up(host):
    first = folders.OutputFile("sub/scene", ".ply")
    assert first.filename == "scene_00001_.ply" and first.subfolder == "sub"
    first.beside(".json").write_text("{}")
    assert folders.OutputFile("sub/scene", ".ply").filename == "scene_00002_.ply"


def test_cancel_becomes_the_hosts_interrupt_and_errors_name_the_node(host):
    host.management.interrupted = True
    with pytest.raises(host.management.InterruptProcessingException), run.NodeRun("Node") as node:
        assert node.should_stop()
        raise Cancelled("stop")
    with pytest.raises(FlashWorldError, match="^Node: what$"), run.NodeRun("Node"):
        raise FlashWorldError("what")


def test_progress_and_text_reach_the_node(host):
    with run.NodeRun("Node") as node:
        node.part(0.5, 1.0)(1, 2, torch.zeros(4, 4, 3))
        node.say("hello")
    ((value, total, preview),) = host.updates
    assert (value, total) == (750, 1000) and preview[0] == "JPEG" and preview[1].size == (4, 4)
    assert host.server.texts == [("hello", "7")]


def test_what_a_node_says_stays_on_it_but_for_what_is_over(host):
    with run.NodeRun("Node") as node:
        node.say_now("Step 1 of 2")
        node.say("Kept 3 of 4.")
        result = node.output(1, 2, ui={"images": []})
    assert [text for text, _ in host.server.texts] == ["Step 1 of 2", "Kept 3 of 4."]
    assert result.ui == {"images": [], "flashworld_text": ["Kept 3 of 4."]} and result.args == (1, 2)


@pytest.mark.parametrize("value", ["sideways", "", None, 3, ["path"], {"a": 1}, "x" * 9000])
def test_choices_off_the_list_are_refused_by_name(value):
    sockets.checked_choice("crop", "box", {"box": 1, "path": 2})
    with pytest.raises(FlashWorldError, match="^crop must be one of box, path; got .{0,90}$"):
        sockets.checked_choice("crop", value, ("box", "path"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_refused_by_name(value):
    sockets.checked_numbers(max_size=0.5, min_opacity=0)
    with pytest.raises(FlashWorldError, match="max_size must be a finite number"):
        sockets.checked_numbers(min_opacity=0.1, max_size=value)
