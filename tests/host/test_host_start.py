"""The pack in a real ComfyUI loads without a complaint. How fast is measured in benchmarks/import_time.py."""

import pytest
from host_server import PACK_FOLDER, HostServer

pytestmark = pytest.mark.host


def test_the_pack_loads_without_a_complaint(host: HostServer) -> None:
    lines = [line for line in host.start_log.splitlines() if PACK_FOLDER in line and "seconds" in line]
    assert len(lines) == 1, host.start_log[-3000:]
    assert "IMPORT FAILED" not in lines[0], host.start_log[-6000:]
    assert "Error while calling comfy_entrypoint" not in host.start_log
    assert "Traceback" not in host.start_log
