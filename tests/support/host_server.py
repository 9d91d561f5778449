"""Finding a ComfyUI on this machine and running it headless with the pack in it.

Where the host is: ``COMFYUI_PATH``, else ``~/comfy/ComfyUI``, else the ComfyUI whose ``custom_nodes`` holds this
checkout. Its python: ``COMFYUI_PYTHON``, else a virtual environment inside the host's folder or beside it, else the
python that runs this. Its frontend: ``COMFYUI_FRONTEND``, the ``static`` folder of an unpacked
``comfyui_frontend_package``, else the one it is installed with. The host gets a base directory of its own, so that its
models, input, output and user folders are never touched. The pack is linked into one custom_nodes folder per checkout:
compiled kernels are kept under the name a host knows the pack by, which is that path, and serve the next host too.

Run as a program it serves the pack for a browser until interrupted::

    python tests/host/host_server.py --port 8190 [--host PATH] [--base DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]
PACK_FOLDER = "ComfyUI-FlashWorld"
PROBE_FOLDER = "flashworld_host_probe"
LINKS = Path(tempfile.gettempdir()) / f"flashworld-host-{hashlib.sha256(bytes(PACK)).hexdigest()[:8]}"
SHIMS = Path(__file__).resolve().parent / "shims"
CHECK = "import torch, aiohttp, yaml, PIL, safetensors, transformers, einops, scipy, psutil, alembic, sqlalchemy, av"


class NoHost(Exception):
    """There is no ComfyUI that could be started; the message says what is missing."""


def find_host(path: str | None = None) -> Path:
    """The folder of the ComfyUI to use.

    Raises:
        NoHost: none of the three places has one.
    """
    named = path or os.environ.get("COMFYUI_PATH")
    places = [Path(named).expanduser()] if named else [Path.home() / "comfy" / "ComfyUI", PACK.parent.parent]
    for place in places:
        if (place / "main.py").is_file() and (place / "comfyui_version.py").is_file():
            return place.resolve()
    raise NoHost(f"no ComfyUI in {' or '.join(map(str, places))}: set COMFYUI_PATH to its folder")


def find_python(host: Path) -> Path:
    """The python of ``host``, able to import what ComfyUI needs.

    Raises:
        NoHost: it cannot import ComfyUI's requirements.
    """
    named = os.environ.get("COMFYUI_PYTHON")
    folders = [place / name for place in (host, host.parent) for name in (".venv", "venv")]
    found = [p for f in folders for p in (f / "bin" / "python", f / "Scripts" / "python.exe") if p.exists()]
    python = Path(named).expanduser() if named else (found or [Path(sys.executable)])[0]
    try:
        check = subprocess.run([python, "-c", CHECK], capture_output=True, text=True, timeout=300)
    except OSError as error:
        raise NoHost(f"{python} does not run ({error}): set COMFYUI_PYTHON to the python of {host}") from None
    if check.returncode:
        reason = check.stderr.strip().splitlines()[-1]
        raise NoHost(f"{python} cannot run ComfyUI ({reason}): set COMFYUI_PYTHON to the python of {host}")
    return python


def host_version(host: Path) -> tuple[int, int, int]:
    """ComfyUI's version as three numbers."""
    text = (host / "comfyui_version.py").read_text(encoding="utf-8")
    major, minor, patch = re.search(r'__version__ = "(\d+)\.(\d+)\.(\d+)', text).groups()
    return int(major), int(minor), int(patch)


def host_environment() -> dict[str, str]:
    """This process's environment with the shims for CPU hosts first on the python path."""
    path = [str(SHIMS), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", "NUMBA_CACHE_DIR": str(LINKS / "kernels")}
    return {**os.environ, **own}


def _linked_packs() -> Path:
    """The custom_nodes folder with the pack and the tests' probe in it."""
    folder = LINKS / "custom_nodes"
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in ((PACK_FOLDER, PACK), (PROBE_FOLDER, Path(__file__).resolve().parent / "probe_pack")):
        link = folder / name
        if not link.is_symlink():
            with contextlib.suppress(FileExistsError):  # another host that starts right now
                link.symlink_to(target, target_is_directory=True)
    return folder


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class HostServer:
    """A running ComfyUI; use as a context manager, which always ends the process.

    Args:
        base: folder for the host's models, input, output, temp and user folders; made if missing.
        host: ComfyUI's folder (see ``find_host``).
        port: to listen on; None takes a free one.
        extra: further command line arguments.
        forced: options, without dashes, that ComfyUI's parser would not let stand beside --cpu.
    """

    def __init__(
        self,
        base: Path,
        host: Path | None = None,
        port: int | None = None,
        extra: tuple[str, ...] = (),
        forced: tuple[str, ...] = (),
    ):
        self.base, self.host, self.port = Path(base), host or find_host(), port or free_port()
        self.python, self.version = find_python(self.host), host_version(self.host)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = self.base / "host.log"
        self._extra, self._forced, self._process = extra, forced, None

    def __enter__(self) -> HostServer:
        for name in ("custom_nodes", "models", "input", "output", "user"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        paths = self.base / "extra_paths.yaml"
        paths.write_text(f"tests:\n  custom_nodes: {_linked_packs()}\n", encoding="utf-8")
        script = [Path(__file__).parent / "host_forced.py", ",".join(self._forced)] if self._forced else ["main.py"]
        command = [self.python, *script, "--cpu", "--port", self.port, "--base-directory", self.base]
        command += ["--database-url", "sqlite:///:memory:", "--disable-auto-launch", "--disable-api-nodes"]
        command += ["--extra-model-paths-config", paths]
        if frontend := os.environ.get("COMFYUI_FRONTEND"):
            command += ["--front-end-root", Path(frontend).expanduser().resolve()]
        command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK_FOLDER, PROBE_FOLDER, *self._extra]
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                list(map(str, command)),
                cwd=self.host,
                env=host_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_up(240.0)
        except BaseException:
            self.stop()
            raise
        self.start_log = self.log
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_up(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.alive:
            try:
                urllib.request.urlopen(self.url + "/system_stats", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        raise RuntimeError(f"ComfyUI did not come up ({self.url}); its log ends with\n{self.log[-4000:]}")

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything the host has printed, without colors."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log_path.read_text(encoding="utf-8", errors="replace"))

    def stop(self) -> None:
        """End the process: politely, then for good."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """Serve the pack until interrupted."""
    parser = argparse.ArgumentParser(description="Run a ComfyUI with this pack in it.")
    parser.add_argument("--port", type=int, default=8190)
    parser.add_argument("--host", help="ComfyUI's folder; default as for the tests")
    parser.add_argument("--base", type=Path, help="folder for input, output, models...; default a new temporary one")
    parser.add_argument("extra", nargs="*", help="after --: further arguments for ComfyUI")
    given = parser.parse_args()
    base = given.base or Path(tempfile.mkdtemp(prefix="flashworld-host-"))
    with HostServer(base, find_host(given.host), given.port, tuple(given.extra)) as server:
        print(
            f"ComfyUI {'.'.join(map(str, server.version))} at {server.url}, folders and host.log in {base}", flush=True
        )
        try:
            while server.alive:
                time.sleep(1)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
