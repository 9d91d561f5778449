"""The scene files in tests/formats/data: truths, sources, and how far a scene is from either."""

import functools
import json
from pathlib import Path

import numpy as np

from flashworld_core.formats.scenes.ply import read_ply
from flashworld_core.sh import C0

DATA = Path(__file__).resolve().parents[1] / "formats" / "data"
ENTRIES = json.loads((DATA / "manifest.json").read_text())["entries"]


def path_of(entry):
    path = DATA / entry["file"]
    return next(path.glob("*.gltf"), path) if path.is_dir() else path


def truth_of(entry):
    """What the official reader returns, {} if that is not here."""
    from safetensors.numpy import load_file

    names = [entry[key] for key in ("truth_other_arrays", "truth") if entry.get(key)]
    return {key: array for name in names for key, array in load_file(DATA / name).items()}


@functools.cache
def source(name):
    return read_ply(DATA / "source" / f"{name}.ply")


def source_of(entry):
    return source(entry["source"].split("/")[1][:2])


def columns(scene):
    """A scene in a PLY's terms, but for the opacity, as numpy."""
    with np.errstate(divide="ignore"):
        logs = np.log(scene.scales.double().numpy())
    sh = scene.sh.numpy()
    alphas = scene.opacities.numpy()
    return {
        "means": scene.means.numpy(),
        "log_scales": logs,
        "quats": scene.quats.numpy(),
        "opacity": alphas,
        "sh_dc": sh[:, 0],
        "sh_rest": sh[:, 1:],
    }


def degrees_between(a, b):
    """Angle of the relative rotation of quaternions [n, 4]."""
    a, b = (q.astype(np.float64) / np.linalg.norm(q.astype(np.float64), axis=1, keepdims=True) for q in (a, b))
    nearer = np.minimum(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return np.degrees(4 * np.arcsin(np.clip(nearer / 2, 0, 1)))


def errors(scene, original, order=None, in_range=None):
    """{what: (max, rms)} between rows of a scene and rows ``order`` of the original; values not in range count as 0."""
    order = slice(None) if order is None else order
    made, wanted, masks = columns(scene), columns(original), in_range or {}
    differences = {
        name: made[name].astype(np.float64) - wanted[name][order] for name in ("means", "log_scales", "opacity")
    }
    differences["rotation_degrees"] = degrees_between(made["quats"], wanted["quats"][order])
    differences["colour_dc_times_C0"] = C0 * (made["sh_dc"].astype(np.float64) - wanted["sh_dc"][order])
    rest = made["sh_rest"].shape[1]
    difference = made["sh_rest"].astype(np.float64) - wanted["sh_rest"][order][:, :rest]
    for band, rows in enumerate((slice(0, 3), slice(3, 8), slice(8, 15)), start=1):
        if rows.stop <= rest:
            differences[f"sh_band{band}"] = difference[:, rows]
            if "sh_rest" in masks:
                differences[f"sh_band{band}"] = difference[:, rows] * masks["sh_rest"][order][:, rows]
    for name, mask in masks.items():
        if name in differences:
            with np.errstate(invalid="ignore"):
                differences[name] = np.where(mask[order], differences[name], 0)
    return {name: (np.abs(d).max(), np.sqrt((d**2).mean())) for name, d in differences.items()}
