"""The nodes without ComfyUI: the stand-in host on sys.path, the pack loaded the way ComfyUI loads it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACK = "flashworld_pack"


def load_pack():
    """The pack as a package of a name of its own, like ComfyUI's loader makes it; once per process."""
    if PACK not in sys.modules:
        sys.path.insert(0, str(Path(__file__).parent / "standin"))
        spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = module
        spec.loader.exec_module(module)
    return sys.modules[PACK]


load_pack()


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A fresh stand-in host with its folders below ``tmp_path``; the server as ``host.server``."""
    from types import SimpleNamespace

    import comfy.model_management as management
    import comfy.utils
    import comfy_execution.utils as execution
    import folder_paths
    from server import PromptServer

    folder_paths.use(str(tmp_path))
    sys.modules[f"{PACK}.nodes.comfyui.folders"].register_model_folder()
    monkeypatch.setattr(PromptServer, "instance", PromptServer())
    monkeypatch.setattr(execution, "current", execution.ExecutionContext("prompt", "7", None))
    monkeypatch.setattr(management, "interrupted", False)
    monkeypatch.setattr(management, "requests", [])
    monkeypatch.setattr(management, "freed", [])
    monkeypatch.setattr(management, "loaded", [])
    monkeypatch.setattr(comfy.utils, "updates", [])
    return SimpleNamespace(
        root=tmp_path,
        server=PromptServer.instance,
        management=management,
        updates=comfy.utils.updates,
        input=tmp_path / "input",
        output=tmp_path / "output",
        temp=tmp_path / "temp",
        models=tmp_path / "models",
    )
