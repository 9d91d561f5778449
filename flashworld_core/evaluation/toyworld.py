"""Figures of a model on held-out ToyWorld scenes: from an image and prompt, and from the prompt alone.

Every scene's figures and renders are kept in the folder as they are made, so that a run can be stopped and gone on
with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..cameras import Cameras
from ..datasets.toyworld.raycast import render_scene
from ..datasets.toyworld.scene import scene_alike
from ..datasets.toyworld.world import ToySample, ToyWorld
from ..errors import FlashWorldError
from ..formats.files import atomic_writer
from ..gaussians import Gaussians
from ..generators.base import Request, RunOptions, ViewImage
from ..media.export import save_png
from ..progress import Progress
from ..rendering.render import render
from ..text import get_logger
from .geometry_metrics import depth_disagreement, floaters
from .metrics import Figure, frechet_distance, gradient_energy, mean_of, psnr_db, ratio_of, spread, ssim
from .probe import ATTRIBUTES, Probe, accuracy, chance, load_probe

log = get_logger(__name__)

MODES = ("image", "text")
NOVEL_VIEWS = 4
SPLIT = "test"


def judge(
    model, folder: Path, *, scenes: int = 64, modes: Sequence[str] = MODES, prompts: int = 8, samples: int = 4,
    first_seed: int = 0, progress: Progress | None = None, probe: Probe | None = None,
) -> dict:  # fmt: skip
    """Figures of a model, scene by scene and together.

    Scene i gives its view i mod T as the image, so that every place along the path counts alike.

    Args:
        model: a `generators.base.Generator`.
        folder: of the model's rows (``rows.jsonl``), features and renders; scenes that are there are not made again.
        scenes: held-out scenes, of the "test" split from ``first_seed`` on.
        modes: "image" (with the prompt) and "text" (the prompt alone).
        prompts, samples: scenes whose prompt is given again with other seeds, and how often, for diversity.
        probe: reads attributes; None takes the one that ships.

    Returns:
        ``figures``: {mode: {name: Figure}}, and ``rows``: what was measured of each scene.

    Raises:
        FlashWorldError: no scenes, or a folder with another model's rows.
        Cancelled: stopped; scenes made so far are kept.
    """
    if scenes < 1:
        raise FlashWorldError(f"At least one scene is needed, got {scenes}.")
    folder.mkdir(parents=True, exist_ok=True)
    rows = _Rows(folder, model.info.model_id)
    probe = probe or load_probe()
    jobs = [(mode, first_seed + i, i) for mode in modes for i in range(scenes)]
    more = [("diversity", first_seed + i, i) for i in range(min(prompts, scenes))] if "text" in modes else []
    progress = (progress or Progress()).start(len(jobs) + len(more))
    world = ToyWorld(model.info.views, model.info.width, model.info.height)
    for mode, seed, i in [*jobs, *more]:
        progress.check()
        if (mode, seed) not in rows.found:
            sample = world.sample(seed, SPLIT, novel_views=NOVEL_VIEWS)
            if mode == "diversity":
                rows.add(mode, seed, _diversity(model, sample, samples, progress))
            else:
                row, made, features = judge_scene(
                    model, sample, i % model.info.views if mode == "image" else None, probe
                )
                _keep(folder, mode, seed, made, features)
                rows.add(mode, seed, row)
        progress.advance()
    wanted = {(mode, seed) for mode, seed, _ in [*jobs, *more]}
    kept = {key: row for key, row in rows.found.items() if key in wanted}
    figures = {mode: summarize([row for (m, _), row in kept.items() if m == mode]) for mode in modes}
    for mode in modes:
        figures[mode] |= _frechet(folder, mode, [seed for m, seed in kept if m == mode])
    if more:
        diverse = [row for (mode, _), row in kept.items() if mode == "diversity"]
        figures["text"]["diversity"] = ratio_of(
            *(torch.tensor([row[key] for row in diverse]) for key in ("made", "real"))
        )
    return {"figures": figures, "rows": [{"mode": m, "seed": s, **row} for (m, s), row in kept.items()]}


def judge_scene(model, sample: ToySample, view: int | None, probe: Probe) -> tuple[dict, Tensor, Tensor]:
    """Generate one scene and measure it against the truth.

    Args:
        view: whose image is given; None: the prompt alone.

    Returns:
        The row, the renders [T + M, H, W, 3], and the probe's features [2, T + M, D] of these and of the true views.
    """
    views = len(sample.cameras)
    every = joined(sample.cameras, sample.novel_cameras)
    truth = torch.cat([sample.images, sample.novel_images]).permute(0, 2, 3, 1)
    depth = torch.cat([sample.depth, sample.novel_depth])
    images = () if view is None else (ViewImage(truth[view], view),)
    scene = model.generate(Request(sample.cameras, images, sample.prompt, sample.scene.seed)).gaussians
    out = render(scene, every, modes=("rgb", "expected_depth", "alpha"))
    made, db, alike = out.rgb.clamp(0, 1), psnr_db(out.rgb, truth), ssim(out.rgb, truth)
    novel = slice(views, None)
    energy = {"made": gradient_energy(made), "real": gradient_energy(truth)}
    row = {
        "energy": {key: float(value[novel].mean()) for key, value in energy.items()},
        "path_energy": {key: float(value[:views].mean()) for key, value in energy.items()},
        "alpha": float(out.alpha.mean()),
        "depth_disagreement": {
            "made": depth_disagreement(out.expected_depth[:views], out.alpha[:views], sample.cameras),
            "real": depth_disagreement(depth[:views], torch.ones_like(depth[:views]), sample.cameras),
        },
        "accuracy": {
            "made": accuracy(probe, made, sample.scene),
            "real": accuracy(probe, truth, sample.scene),
            "chance": chance(sample.scene),
        },
    }
    if view is not None:
        flat = psnr_db(truth[:views].mean((0, 1, 2)).expand_as(truth), truth)
        row |= {
            "input_psnr_db": float(db[view]),
            "novel_psnr_db": float(db[novel].mean()),
            "novel_psnr_db_mean_color": float(flat[novel].mean()),
            "novel_ssim": float(alike[novel].mean()),
            "floaters": floaters(scene, every, depth),
        }
    with torch.no_grad():
        features = torch.stack([probe.features(made), probe.features(truth)])
    return row, made, features


def summarize(rows: list[dict]) -> dict[str, Figure]:
    """Figures over scenes from their rows; accuracy of the truth and of a blind guess stand beside the model's."""
    figures = {}
    for name in ("input_psnr_db", "novel_psnr_db", "novel_psnr_db_mean_color", "novel_ssim", "floaters"):
        if rows and name in rows[0]:
            figures[name] = mean_of(torch.tensor([row[name] for row in rows]))
    for name, key in (("sharpness", "energy"), ("sharpness_path_views", "path_energy")):
        figures[name] = ratio_of(*(torch.tensor([row[key][side] for row in rows]) for side in ("made", "real")))
    for side, name in (("made", "accuracy"), ("real", "accuracy_of_truth"), ("chance", "accuracy_by_chance")):
        each = {key: torch.tensor([row["accuracy"][side][key] for row in rows]) for key in ATTRIBUTES}
        figures[name] = mean_of(torch.stack(list(each.values())).mean(0))
        figures |= {f"{name}_{key}": mean_of(values) for key, values in each.items()}
    for side, name in (("made", "depth_disagreement"), ("real", "depth_disagreement_of_truth")):
        values = torch.tensor([row["depth_disagreement"][side] for row in rows])
        if len(values := values[values.isfinite()]):
            figures[name] = mean_of(values)
    figures["opacity"] = mean_of(torch.tensor([row["alpha"] for row in rows]))
    return figures


def joined(path: Cameras, novel: Cameras) -> Cameras:
    """The cameras of a path and then those off it."""
    poses = torch.cat([path.camera_to_world, novel.camera_to_world])
    return Cameras(poses, torch.cat([path.intrinsics, novel.intrinsics]), path.width, path.height)


def _diversity(model, sample: ToySample, samples: int, progress: Progress) -> dict[str, float]:
    """Spread of the model's scenes for a prompt, and of true scenes of that prompt, at the path's views."""
    made, run = [], RunOptions(progress=Progress(should_stop=progress.should_stop))
    for k in range(samples):
        request = Request(sample.cameras, (), sample.prompt, sample.scene.seed + 1_000_003 * (k + 1))
        scene: Gaussians = model.generate(request, run).gaussians
        made.append(render(scene, sample.cameras).rgb)
    real = [render_scene(scene_alike(sample.scene, k), sample.cameras, 2)[0] for k in range(samples)]
    return {"made": float(spread(torch.stack(made))), "real": float(spread(torch.stack(real)))}


def _keep(folder: Path, mode: str, seed: int, made: Tensor, features: Tensor) -> None:
    from safetensors.torch import save

    with atomic_writer(folder / f"{mode}_{seed}.safetensors") as stream:
        stream.write(save({"made": features[0].contiguous(), "real": features[1].contiguous()}))
    save_png(folder / f"{mode}_{seed}.png", torch.cat(list(made), 1))


def _frechet(folder: Path, mode: str, seeds: list[int]) -> dict[str, Figure]:
    """Frechet distance of the probe's features, and of one half of the true scenes from the other, at equal counts."""
    from safetensors.torch import load_file

    if len(seeds) < 4:
        return {}
    stored = [load_file(folder / f"{mode}_{seed}.safetensors") for seed in seeds]
    half = len(stored) // 2
    made, real = (torch.stack([one[key] for one in stored]) for key in ("made", "real"))
    draws = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {"frechet_distance": [], "frechet_distance_of_truth": []}
    for _ in range(8):
        order = torch.randperm(len(stored), generator=draws)
        first, second = order[:half], order[half : 2 * half]
        found["frechet_distance"].append(frechet_distance(made[first].flatten(0, 1), real[second].flatten(0, 1)))
        found["frechet_distance_of_truth"].append(
            frechet_distance(real[first].flatten(0, 1), real[second].flatten(0, 1))
        )
    return {name: Figure(float(torch.tensor(v).mean()), float(torch.tensor(v).std())) for name, v in found.items()}


class _Rows:
    """``rows.jsonl``: one line a scene, after a first line that names the model."""

    def __init__(self, folder: Path, model_id: str):
        self.path, self.found = folder / "rows.jsonl", {}
        if not self.path.exists():
            self.path.write_text(json.dumps({"model": model_id}) + "\n", encoding="utf-8")
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        try:
            head, *rest = map(json.loads, lines)
        except ValueError:
            # The last line of a killed run may be cut.
            head, *rest = map(json.loads, lines[:-1])
            self.path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
        if head.get("model") != model_id:
            raise FlashWorldError(f"{folder} holds figures of the model {head.get('model')!r}; give another folder.")
        self.found = {(row.pop("mode"), row.pop("seed")): row for row in rest}

    def add(self, mode: str, seed: int, row: dict) -> None:
        self.found[mode, seed] = row
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"mode": mode, "seed": seed, **row}) + "\n")
