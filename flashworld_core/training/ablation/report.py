"""The ablation's table, its two marks and its pictures, as Markdown."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from ...formats.files import atomic_writer
from .figures import Figure
from .variants import VARIANTS

Rows = dict[str, list[dict]]
_COLUMNS = (
    "accuracy all", "accuracy kind", "accuracy color", "accuracy ground", "accuracy sky", "accuracy of unseen pairs",
    "sharpness", "sharpness of the first step", "frechet", "diversity", "fit error", "sharpness of fits",
    "depth spread",
)  # fmt: skip
_QUALITY = (("B", "A"), ("A", "C"), ("C", "E"), ("E", "D"), ("E", "F"))
_HEADER = """# Ablation on ToyWorld

Made by `{command}`; every figure is the mean over held-out prompts ± its standard error over scenes{seeds}.
Everything is made from the prompt alone. Model: `{model}`, {data}. Sharpness is gradient energy over the truth's
(1 is right, below 0.6 blurry, above 1.3 noisy); Frechet distances compare only with one another; the fit error is the
mean squared error a fitted Gaussian scene leaves on the views (of 3D variants, what the fit itself cannot do); depth
spread is std / mean of the depths a pixel is blended from (floaters raise it).

"""


def combine(rows: list[dict], name: str) -> Figure | None:
    """A figure over seeds: the mean; its error is the larger of that over scenes and that between seeds."""
    found = [row[name] for row in rows if name in row]
    if not found:
        return None
    mean = sum(value for value, _ in found) / len(found)
    within = math.sqrt(sum(error**2 for _, error in found)) / len(found)
    if len(found) == 1:
        return Figure(mean, within)
    between = math.sqrt(sum((value - mean) ** 2 for value, _ in found) / (len(found) - 1) / len(found))
    return Figure(mean, max(within, between))


def marks(rows: Rows) -> list[tuple[str, str]]:
    """What the spec expects, and whether it shows: "yes" or "no" by more than two standard errors, else "open"."""
    found = [
        (f"quality and alignment: {low} < {high}", _greater(rows, high, low, "accuracy all")) for low, high in _QUALITY
    ]
    for multiview in ("A", "C"):
        for other in ("B", "D", "E", "F"):
            found.append(
                (f"inconsistency: {multiview} > {other} (fit error)", _greater(rows, multiview, other, "fit error"))
            )
    found.append(("floaters: D > F (depth spread)", _greater(rows, "D", "F", "depth spread")))
    found.append(("unseen pairs: E < F", _greater(rows, "F", "E", "accuracy of unseen pairs")))
    found.append(("blurry: sharpness of B < F", _greater(rows, "F", "B", "sharpness")))
    return [(text, mark) for text, mark in found if mark]


def _greater(rows: Rows, high: str, low: str, name: str) -> str:
    if high not in rows or low not in rows:
        return ""
    a, b = combine(rows[high], name), combine(rows[low], name)
    if a is None or b is None:
        return ""
    difference, error = a.value - b.value, math.hypot(a.error, b.error)
    verdict = "yes" if difference > 2 * error else "no" if difference < -2 * error else "open"
    return f"{verdict} ({difference:+.4g} ± {error:.2g})"


KEPT = "## What it says"
"""What follows this heading in a report is written by hand, and kept when the report is written again."""


def write_report(path: Path, rows: Rows, pictures: Path, recipe, command: str = "") -> None:
    """Write the Markdown file and copy the variants' pictures beside it."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    letters = [letter for letter in (*VARIANTS, "truth") if letter in rows]
    seeds = max(len(of) for of in rows.values())
    lines = [
        _HEADER.format(
            command=command or "python -m flashworld_core.training ablate", model=recipe.model,
            seeds=f" and, over {seeds} seeds, the larger of that and that between seeds" if seeds > 1 else "; one seed",
            data="one plain solid outdoors" if recipe.data[0].simple else "all of ToyWorld",
        ),
        "| | " + " | ".join(letters) + " |", "|---" * (len(letters) + 1) + "|",
        "| | " + " | ".join(VARIANTS[x].name if x in VARIANTS else "truth" for x in letters) + " |",
        "| critic iterations | " + " | ".join(str(rows[x][0].get("iterations") or "") for x in letters) + " |",
    ]  # fmt: skip
    for name in _COLUMNS:
        cells = [combine(rows[letter], name) for letter in letters]
        lines.append(f"| {name} | " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |")
    lines += ["", "## Marks", "", "By more than two standard errors: yes, no, or open.", ""]
    lines += [f"- {text}: {mark}" for text, mark in marks(rows)]
    lines += ["", "## Pictures", "", "The first eight held-out prompts, first and last view of each.", ""]
    folder = path.with_suffix("")
    for letter in letters:
        source = next(iter(sorted(pictures.glob(f"{letter}*.png" if letter == "truth" else f"{letter}-*.png"))), None)
        if source is not None:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / f"{letter}.png")
            lines.append(f"![{letter}]({folder.name}/{letter}.png)")
    if KEPT in before:
        lines += ["", before[before.index(KEPT) :].rstrip()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as stream:
        stream.write(("\n".join(lines) + "\n").encode("utf-8"))
