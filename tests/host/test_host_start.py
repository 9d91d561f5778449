"""The pack in a real ComfyUI: it loads, quickly, and shows the nodes it promises."""

import re

import pytest
from host_server import PACK_FOLDER, HostServer

pytestmark = pytest.mark.host
IMPORT_SECONDS = 0.2


def test_the_pack_loads_without_a_complaint(host: HostServer) -> None:
    lines = [line for line in host.log.splitlines() if PACK_FOLDER in line and "seconds" in line]
    assert len(lines) == 1, host.log[-3000:]
    assert "IMPORT FAILED" not in lines[0], host.log[-6000:]
    assert "Error while calling comfy_entrypoint" not in host.log
    assert "Traceback" not in host.log


def test_the_pack_adds_little_to_the_start(host: HostServer) -> None:
    (seconds,) = re.findall(r"([\d.]+) seconds(?: \(IMPORT FAILED\))?: .*" + PACK_FOLDER, host.log)
    assert float(seconds) <= IMPORT_SECONDS
