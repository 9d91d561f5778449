"""The networks under a real ComfyUI's memory management, in its own python: loaded, loaded in part, evicted, gone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from host_server import PACK, NoHost, find_host, find_python, host_environment

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    try:
        host = find_host()
        python = find_python(host)
    except NoHost as reason:
        pytest.skip(str(reason))
    command = [python, Path(__file__).parents[1] / "support" / "memory_check.py", host, PACK]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, env=host_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_scene_is_the_cores_whatever_the_host_moved(found: dict[str, Any]) -> None:
    assert found["equal"] and found["equal_again"] and found["equal_outside"]


def test_networks_are_the_hosts_from_first_use_to_unloading(found: dict[str, Any]) -> None:
    assert found["loaded_at_first"] == 0
    assert found["loaded"] == [f"FlashWorld {part}" for part in ("decoder", "encoder", "text encoder", "transformer")]
    assert found["loaded_after_unload"] == 0


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_a_transformer_loaded_in_part_computes_the_same(found: dict[str, Any], dtype: str) -> None:
    of = found[dtype]
    assert of["lowvram"] and 0.2 < of["loaded_share"] < 0.8
    assert of["equal_in_part"] and of["equal_after_eviction"] and of["equal_after_detach"]


@pytest.mark.parametrize("dtype", ["fp8", "int8"])
def test_eight_bit_layers_are_streamed_in_eight_bits(found: dict[str, Any], dtype: str) -> None:
    of = found[dtype]
    assert of["lowvram"] and 0.2 < of["loaded_share"] < 0.8
    assert of["equal_in_part"] and of["equal_after_eviction"] and of["equal_after_detach"] and of["equal_to_the_core"]
    assert of["bytes"] < 0.7 * found["torch.bfloat16"]["bytes"]


def test_the_hosts_out_of_memory_is_recognized(found: dict[str, Any]) -> None:
    assert found["oom_is_known"] and found["others_are_not"]


def test_nothing_keeps_a_model_the_host_has_dropped(found: dict[str, Any]) -> None:
    assert found["gone"]
