"""The same scene under every option of ComfyUI that moves networks, chooses attention or precision, or drops caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from host_client import HostClient
from host_server import HostServer, NoHost, find_host
from host_workflows import files_of, put_example, run_saved

from flashworld_core.formats.scenes import read_scene

pytestmark = [pytest.mark.host, pytest.mark.slow]

FIELDS = ("means", "quats", "scales", "opacities", "sh")
# Options that ComfyUI's parser does not take beside --cpu are forced on it; several that do not meet share a host.
FLAGS = {
    "lowvram": (("lowvram",), ("--use-split-cross-attention", "--cache-none")),
    "novram": (("novram",), ("--use-pytorch-cross-attention", "--disable-metadata")),
    "highvram": (("highvram",), ("--force-fp16",)),
    "dynamic": ((), ("--enable-dynamic-vram",)),
    "not dynamic": ((), ("--disable-dynamic-vram", "--disable-smart-memory")),
}


def scene_of(base: Path, forced: tuple[str, ...], extra: tuple[str, ...]) -> Any:
    """The scene that image_to_scene writes in a host with these options, in single precision on the CPU."""
    try:
        server = HostServer(base, find_host(), extra=extra, forced=forced)
    except NoHost as reason:
        pytest.skip(str(reason))
    known = (server.host / "comfy" / "cli_args.py").read_text(encoding="utf-8")
    if missing := [flag for flag in extra if f'"{flag}"' not in known]:
        pytest.skip(f"this ComfyUI has no {' '.join(missing)}")
    with server:
        put_example(base)
        client = HostClient(server.url)
        run = run_saved(client, "image_to_scene", client.object_info())
        files = files_of(run, "image_to_scene", base, "FlashWorld_ExportScene")
    (ply,) = [file for file in files if file.suffix == ".ply"]
    return read_scene(ply)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scene_of(tmp_path_factory.mktemp("plain"), (), ())


@pytest.mark.parametrize("name", FLAGS)
def test_the_scene_is_the_same_to_the_last_bit(plain: Any, tmp_path: Path, name: str) -> None:
    scene = scene_of(tmp_path, *FLAGS[name])
    assert len(scene.means) > 1000
    for field in FIELDS:
        assert torch.equal(getattr(scene, field), getattr(plain, field)), field
