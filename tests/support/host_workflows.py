"""The saved workflows for host tests: reading them, running them, and finding what a node of theirs made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from host_client import HostClient, Run, output_files
from host_graphs import WIDGETS, inputs_of
from host_scenes import DEMO, as_array
from host_server import PACK
from ui_to_api import UPLOADS, to_api
from workflow_specs import EXAMPLE

FOLDER = PACK / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
EARLIER = sorted((PACK / "tests" / "data" / "workflows").glob("*.json"))  # as earlier versions saved them


def read(name: str | Path) -> dict[str, Any]:
    """The saved workflow of that name, or in that file."""
    file = name if isinstance(name, Path) else FOLDER / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))


def put_example(base: Path) -> None:
    """Make the demo picture the example picture that every ComfyUI has in its input folder."""
    shutil.copy(DEMO / "picture.png", base / "input" / EXAMPLE)


def fitted(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """Without the values at the end that core nodes of an older host have no widgets for, as its frontend reads it."""
    for node in workflow["nodes"]:
        if node.get("properties", {}).get("cnr_id") == "comfy-core" and node.get("widgets_values"):
            known = 0
            for kind, options, _ in inputs_of(object_info[node["type"]]).values():
                if kind in WIDGETS and not options.get("forceInput"):
                    known += 1 + bool(options.get("control_after_generate"))
                    known += any(options.get(key) for key in UPLOADS)
            node["widgets_values"] = node["widgets_values"][:known]
    return workflow


def run_saved(client: HostClient, name: str | Path, object_info: dict[str, Any], **options: Any) -> Run:
    """Run a saved workflow, which must end well; ``options`` as in `HostClient.run`."""
    run = client.run(to_api(fitted(read(name), object_info), object_info), **options)
    assert run.ending == "execution_success", f"{run.error.get('node_type')}: {run.error.get('exception_message')}"
    return run


def node_id(workflow: dict[str, Any], kind: str, title: str = "") -> str:
    """The id of the only node of that type, or of the one with that title."""
    found = [n for n in workflow["nodes"] if n["type"] == kind and title in (n.get("title"), "")]
    assert len(found) == 1, f"{len(found)} nodes of type {kind} {title}"
    return str(found[0]["id"])


def files_of(run: Run, name: str, base: Path, kind: str, title: str = "") -> list[Path]:
    """The files a node of the saved workflow reported."""
    return output_files(run, node_id(read(name), kind, title), base)


def pictures_of(run: Run, name: str, base: Path, kind: str = "PreviewImage", title: str = "") -> np.ndarray:
    """The pictures a node of the saved workflow showed, [V, H, W, 3] in [0, 1]."""
    files = [file for file in files_of(run, name, base, kind, title) if file.suffix == ".png"]
    assert files, f"{name}: {kind} {title} showed nothing"
    return np.stack([as_array(file.read_bytes()) for file in files])


def frames_of(video: Path) -> np.ndarray:
    """The frames of a video file, [F, H, W, 3] in [0, 1]."""
    import av

    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]) / 255
