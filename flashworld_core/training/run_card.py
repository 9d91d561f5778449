"""The model card of a run of `pretrain` or `distill`: recipe, curve, held-out figures and pictures."""

from __future__ import annotations

import json
from pathlib import Path

from ..formats.files import atomic_writer
from ..media.export import save_json, save_png
from .config import to_json
from .runs import read_run
from .state import RunFolder

_TEXT = """# {model_id}

A FlashWorld trained by this project's code, stage: {stage}. {views} views of {width}x{height} pixels.
License: {license}

![Held-out scenes: picture, generated views, truth](held_out.png)

## Held-out figures

{scenes} scenes of ToyWorld's "test" split from one image and the prompt, PSNR in dB, mean over scenes; beside it one
flat picture in the scene's mean color.

| | PSNR | mean color |
|---|---|---|
| input view | {input_view_psnr_db:.2f} | {input_view_psnr_db_mean_color:.2f} |
| other views of the path | {path_views_psnr_db:.2f} | {path_views_psnr_db_mean_color:.2f} |
| novel views | {novel_views_psnr_db:.2f} | {novel_views_psnr_db_mean_color:.2f} |

## How it was made

```
{commands}
```

{iterations:,} iterations of batch {batch}, seed {seed}; started from {start}. The weights are the running average.
`recipe.json` beside this file has every setting; the same command with the same seed repeats the run.

![Training curve](curve.png)
"""


def write_card(out: Path, folder: Path, commands: list[str], scenes: int = 16) -> dict:
    """Judge the model in ``folder`` and write README.md, figures.json, recipe.json, curve.png and held_out.png there.

    Args:
        out: the run's folder.
        commands: the command lines that made it.
        scenes: held-out scenes to judge on.

    Raises:
        FlashWorldError: no run, no checkpoint, or a model that cannot be read.
    """
    from ..evaluation.harness import evaluate
    from ..generators import load_model
    from .model_card import held_out_sheet

    stage, recipe = read_run(out)
    model = load_model(folder)
    figures = evaluate(model, scenes)
    checkpoint = RunFolder(out).latest()
    facts = json.loads((checkpoint / "facts.json").read_text(encoding="utf-8"))
    save_json(folder / "figures.json", figures)
    with atomic_writer(folder / "recipe.json") as stream:
        stream.write(to_json(recipe).encode("utf-8"))
    draw_curves(out / "metrics.jsonl", folder / "curve.png")
    save_png(folder / "held_out.png", held_out_sheet(model))
    run = getattr(recipe, stage).run
    text = _TEXT.format(
        model_id=model.config.model_id, stage=stage, views=model.config.views, width=model.config.width,
        height=model.config.height, license=model.license or "as what it started from", commands="\n".join(commands),
        iterations=facts["iteration"], batch=run.batch, seed=run.seed, start=recipe.start or "random weights",
        **figures,
    )  # fmt: skip
    with atomic_writer(folder / "README.md") as stream:
        stream.write(text.encode("utf-8"))
    return figures


def draw_curves(metrics: Path, target: Path) -> None:
    """The losses of ``metrics.jsonl`` over iterations, one panel a player."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    skipped = ("lr", "gradient_norm", "skipped")
    names = sorted({k for row in rows for k in row if "/" in k and k.split("/")[1] not in skipped})
    players = sorted({name.split("/")[0] for name in names})
    figure, axes = pyplot.subplots(1, len(players), figsize=(6 * len(players), 4), layout="constrained", squeeze=False)
    for axis, player in zip(axes[0], players, strict=True):
        for name in (name for name in names if name.startswith(f"{player}/")):
            points = [(row["iteration"], row[name]) for row in rows if row.get(name) is not None]
            axis.plot(*zip(*points, strict=True), label=name.split("/")[1])
        axis.set(xlabel="iteration", title=player, yscale="symlog")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(target, dpi=100)
    pyplot.close(figure)
