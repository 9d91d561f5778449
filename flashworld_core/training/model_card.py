"""The model card of a trained model folder: held-out figures, training curve, pictures, and the words around them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..datasets.toyworld.world import ToyWorld
from ..evaluation.harness import evaluate
from ..generators.base import Request, ViewImage
from ..media.export import contact_sheet, save_json, save_png
from ..rendering.render import render

_TEXT = """# {model_id}

A small FlashWorld trained by this project on its own procedural scenes (`flashworld_core/training/toyworld`), for
trying, testing and teaching. It knows boxes, spheres, cones and cylinders on a ground or in a room,
{width}x{height} pixels, {views} views. **It does not know photographs**: those want the official weights.
License: Apache-2.0.

![Held-out scenes: picture, generated views, truth](held_out.png)

## Held-out figures

{scenes} scenes of the "test" split (seeds 0 to {last}), full few-step generation from one picture and the prompt;
scene i gives its view i mod {views}; {novel} novel views per scene off the path. PSNR in dB, mean over scenes;
beside it what one flat picture in the scene's mean color scores. `figures.json` has every scene.
A scene made from the prompt alone is one of many that fit it, so its score against one truth says little.

| | PSNR | goal | mean color |
|---|---|---|---|
| input view | {input:.2f} | 27 | {input_flat:.2f} |
| other views of the path | {path:.2f} | | {path_flat:.2f} |
| novel views | {novel_db:.2f} | 24 | {novel_flat:.2f} |
| from the prompt alone, path views | {text:.2f} | | {text_flat:.2f} |

## How it was made

{commands}

On 2 CPU cores shared with other work, float32 weights with bfloat16 autocast; {vae_steps:,} autoencoder steps, then
{updates:,} updates of the generator on {scene_count:,} scenes (batch 1). The weights are the running average,
stored as float16. Learning rates follow the clock, so a rerun is similar, not identical: how many steps fit into the
minutes depends on the machine.

![Training curve](curve.png)

| part | parameters |
|---|---|
{parts}
"""


def write_card(out: Path, folder: Path, commands: list[str], scenes: int = 32) -> dict:
    """Judge the model in ``folder`` and write figures.json, curve.png, held_out.png and README.md beside it.

    Args:
        out: folder of the run that made it (for the curve).
        commands: the command lines that made it.
        scenes: held-out scenes to judge on.

    Returns:
        The figures.
    """
    from ..generators import load_model
    from .state import load_checkpoint

    model = load_model(folder)
    figures = {"image": evaluate(model, scenes), "text_only": evaluate(model, max(1, scenes // 4), text_only=True)}
    save_json(folder / "figures.json", figures)
    draw_curve(out / "generator.jsonl", folder / "curve.png")
    save_png(folder / "held_out.png", held_out_sheet(model))
    state = load_checkpoint(out / "generator.pt")
    vae_steps = load_checkpoint(out / "vae.pt")["steps"]
    image, text = figures["image"], figures["text_only"]
    modules = {"transformer": model.transformer, "3DGS decoder": model.decoder, "VAE encoder": model.encoder}
    parts = "\n".join(f"| {n} | {sum(p.numel() for p in m.parameters()):,} |" for n, m in modules.items())
    card = _TEXT.format(
        model_id=model.model_id,
        width=model.config.width,
        height=model.config.height,
        views=model.config.views,
        scenes=scenes,
        last=scenes - 1,
        novel=4,
        input=image["input_view_psnr_db"],
        input_flat=image["input_view_psnr_db_mean_color"],
        path=image["path_views_psnr_db"],
        path_flat=image["path_views_psnr_db_mean_color"],
        novel_db=image["novel_views_psnr_db"],
        novel_flat=image["novel_views_psnr_db_mean_color"],
        text=text["path_views_psnr_db"],
        text_flat=text["path_views_psnr_db_mean_color"],
        commands="```\n" + "\n".join(commands) + "\n```",
        vae_steps=vae_steps,
        updates=state["updates"],
        scene_count=state["scenes"],
        parts=parts,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return figures


def draw_curve(journal: Path, target: Path) -> None:
    """PSNR over updates, for the first and last step of the few-step loop, from a run's journal."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = []
    for row in reversed([json.loads(line) for line in journal.read_text().splitlines()]):
        # A run that was stopped and resumed repeats what came after its last checkpoint: the later rows count.
        if not rows or row["updates"] < rows[-1]["updates"]:
            rows.append(row)
    rows.reverse()
    figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    for color, prefix, label in (("tab:blue", "input_db", "input view"), ("tab:orange", "novel_db", "novel views")):
        for n, style in ((0, ":"), (3, "-")):
            points = [(row["updates"], row[f"{prefix}{n}"]) for row in rows if f"{prefix}{n}" in row]
            axes.plot(
                *zip(*points, strict=True), style, color=color, label=f"{label}, step {n + 1}"
            ) if points else None
    axes.set(xlabel="updates", ylabel="PSNR on training scenes (dB)", title="flashworld-tiny, generator training")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(target, dpi=110)
    pyplot.close(figure)


def held_out_sheet(model, seeds: tuple[int, ...] = (0, 1, 2, 3)):
    """Picture, generated views and truth of the first held-out scenes, as they come."""
    config = model.config
    world = ToyWorld(config.views, config.width, config.height)
    rows = []
    for seed in seeds:
        sample = world.sample(seed, "test", novel_views=0)
        truth = sample.images.permute(0, 2, 3, 1)
        index = seed % config.views
        request = Request(sample.cameras, (ViewImage(truth[index], index),), sample.prompt, seed)
        scene = model.generate(request).gaussians
        with torch.no_grad():
            made = render(scene, sample.cameras).rgb
        shown = sorted({round(i * (config.views - 1) / 3) for i in range(4)})
        rows.append((f"{sample.prompt}: picture (view {index}), then views {shown}", [truth[index], *made[shown]]))
        rows.append(("truth", [truth[index], *truth[shown]]))
    return contact_sheet(rows)
