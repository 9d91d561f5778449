"""The embedded object model from a run's folder: weights, held-out figures, pictures, and the card about them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from ...generators.trellis.export import save_model
from ...generators.trellis.pipeline import TrellisModel
from ...media.export import save_png
from ..recipes.trellis_mdt import TrellisRun
from ..state import load_checkpoint
from .evaluate import judge, picture

LICENSE = "Apache-2.0 (trained by this project on its own procedural objects)"
STEPS = (1, 2, 4, 25)  # of each flow that are judged
SHOWN = tuple(range(6))  # seeds of the picture
# Columns of the table: title, flows of the run by file ("" for the teacher's).
METHODS = {
    "teacher": ("", ""),
    "CM": ("structure_consistency", "slat_consistency"),
    "VM": ("structure_vm", "slat_vm"),
    "VM + VD": ("distill_structure", "distill_slat"),
}


def models_of(run: TrellisRun) -> dict[str, TrellisModel]:
    """The teacher and every distilled version whose files the run has, by title."""
    flows, decoder = run.flows(), run.gaussian_decoder()
    found = {}
    for title, names in METHODS.items():
        pair = []
        for part, name in zip(("structure_flow", "slat_flow"), names, strict=True):
            network = getattr(run.flows(), part)
            file = run.folder / f"{name}.pt"
            if name and not file.is_file():
                break
            if name:
                network.load_state_dict(load_checkpoint(file))
            pair.append(network)
        else:
            modules = {
                "structure_flow": pair[0], "slat_flow": pair[1], "image_encoder": flows.image_encoder,
                "structure_decoder": run.structure_decoder(), "gaussian_decoder": decoder,
            }  # fmt: skip
            found[title] = TrellisModel(run.config, modules, LICENSE)
    return found


def write_model(run: TrellisRun, folder: Path, notes: str, objects: int = 32, shipped: str = "VM + VD") -> dict:
    """Judge a run's models on held-out objects and write one as a model folder with its card.

    Args:
        notes: how it was trained, in sentences.
        objects: held-out objects to judge on.
        shipped: which one of `METHODS`.

    Returns:
        The figures: by title, by steps of each flow.
    """
    models, figures = models_of(run), {}
    for title, model in models.items():
        steps = STEPS if title == "teacher" else STEPS[:2]
        figures[title] = {str(n): dataclasses.asdict(judge(model, range(objects), (n, n))) for n in steps}
    model = models[shipped]
    save_model(folder, model.config, model.modules, dtype=torch.float16, license=LICENSE, compute_dtype="float32",
               notes={"held_out_objects": objects, "figures": figures})  # fmt: skip
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    shown = [(models["teacher"], (25, 25)), (models["teacher"], (2, 2)), (model, (2, 2))]
    save_png(folder / "held_out.png", picture(shown, SHOWN))
    (folder / "README.md").write_text(card(model, figures, notes, objects), encoding="utf-8")
    return figures


def table(figures: dict) -> str:
    """The figures in Markdown."""
    lines = [
        "| flows | steps | image's view, dB | other views, dB | silhouettes, IoU | s |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {title} | {steps} + {steps} | {row['front_db']:.2f} | {row['around_db']:.2f} | {row['overlap']:.3f} | "
        f"{row['seconds']:.2f} |"
        for title, rows in figures.items()
        for steps, row in rows.items()
    ]
    return "\n".join(lines)


def card(model: TrellisModel, figures: dict, notes: str, objects: int) -> str:
    return f"""# trellis-tiny

A TRELLIS of {model.info.parameters / 1e6:.1f} million parameters that knows solids: an image of one to four colored
ellipsoids and boxes becomes 3D Gaussians in 2 + 2 steps. For trying the node and for tests; it knows no photographs.
The networks are those of the published model at small size (`config.json`), but for what is written down: structure
latents are filled voxels, voxels' latents mean color and offset of the surface in them.

{notes}

Means over {objects} held-out objects, seen from the front; views of 64 pixels on white, seconds of this machine's CPU:

{table(figures)}

![Held-out objects](held_out.png)

From left to right: the object from the image's side and from behind, then the same of the teacher at 25 + 25 steps, of
the teacher at 2 + 2, and of this model at 2 + 2.

License: {LICENSE}.
"""
