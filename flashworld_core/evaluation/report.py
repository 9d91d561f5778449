"""A report as one web page: figures of one or two models in a table, their renders side by side."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..formats.files import atomic_writer
from .metrics import Figure

# Figures a reader looks for first, with what they mean; others follow under their own names.
MEANING = {
    "sharpness": "image gradients over the truth's, novel views; 1 is right, below 0.6 blurry, above 1.3 noisy",
    "input_psnr_db": "the given view, dB",
    "novel_psnr_db": "views off the path, dB",
    "novel_psnr_db_mean_color": "what one flat color would have, dB",
    "novel_ssim": "views off the path; 1 is equal",
    "accuracy": "share of the prompt's words that a probe reads off the views",
    "accuracy_of_truth": "the same for true views",
    "accuracy_by_chance": "the same for a guess",
    "diversity": "spread over seeds of a prompt, over that of true scenes of the prompt",
    "frechet_distance": "between features of made and true views; falls with their number",
    "frechet_distance_of_truth": "the same between two halves of the true views",
    "floaters": "share, by opacity, of Gaussians before true surfaces",
    "depth_disagreement": "between neighboring views",
    "depth_disagreement_of_truth": "the same for true depth",
    "opacity": "mean over pixels",
    "clip_score": "100 times the cosine of CLIP embeddings of renders and prompt",
    "gradient_energy": "mean squared image gradient of renders",
}
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}
td.number{font-variant-numeric:tabular-nums;text-align:right;white-space:nowrap}td.what{color:#666}
figure{margin:1.5rem 0}figcaption{margin-bottom:.3rem}img{max-width:100%;image-rendering:pixelated;display:block}
.row{display:grid;grid-template-columns:8rem 1fr;gap:.3rem .8rem;align-items:center}
"""


def write_report(
    path: Path, title: str, tables: Mapping[str, Mapping[str, Mapping[str, Figure]]],
    pictures: Sequence[tuple[str, Sequence[tuple[str, str]]]],
) -> None:  # fmt: skip
    """Write the page.

    Args:
        path: the HTML file.
        tables: {section: {model: {figure's name: Figure}}}.
        pictures: (caption, [(label, file relative to the page)]) of every scene. Names and captions may hold anything.
    """
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for section, models in tables.items():
        parts.append(f"<h2>{html.escape(section)}</h2>{_table(models)}")
    for caption, rows in pictures:
        cells = "".join(
            f"<span>{html.escape(label)}</span><img src={_quoted(file)} alt={_quoted(label)} loading=lazy>"
            for label, file in rows
        )
        parts.append(f"<figure><figcaption>{html.escape(caption)}</figcaption><div class=row>{cells}</div></figure>")
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self' file:; "
        f"style-src 'unsafe-inline'\"><title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )
    with atomic_writer(path) as stream:
        stream.write(page.encode("utf-8", "replace"))


def _quoted(text: str) -> str:
    return f'"{html.escape(text, quote=True)}"'


def _table(models: Mapping[str, Mapping[str, Figure]]) -> str:
    names = dict.fromkeys(name for figures in models.values() for name in figures)
    known, more = [name for name in MEANING if name in names], [name for name in names if name not in MEANING]
    folded = f"<details><summary>{len(more)} more figures</summary>{_rows(models, more)}</details>" if more else ""
    return _rows(models, known) + folded


def _rows(models: Mapping[str, Mapping[str, Figure]], names: Sequence[str]) -> str:
    head = "".join(f"<th>{html.escape(model)}</th>" for model in models)
    rows = []
    for name in names:
        cells = "".join(f"<td class=number>{figures.get(name, '–')}</td>" for figures in models.values())
        what = html.escape(MEANING.get(name, ""))
        rows.append(f"<tr><td>{html.escape(name.replace('_', ' '))}</td>{cells}<td class=what>{what}</td></tr>")
    return f"<table><tr><th></th>{head}<th></th></tr>{''.join(rows)}</table>"
