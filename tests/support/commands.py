"""Commands in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path


def wait_until_ready(process: subprocess.Popen, seconds: float = 60) -> None:
    """Wait until a command has set its own handler of SIGTERM, or has ended; a moment where that cannot be seen."""
    status, deadline = Path(f"/proc/{process.pid}/status"), time.monotonic() + seconds
    if not status.exists():
        time.sleep(4)
    while time.monotonic() < deadline and process.poll() is None and status.exists():
        caught = next((line for line in status.read_text().splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.02)
