"""Picture sheets of a run: held-out prompts, the truth, and what both modes make of them now."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from ...gaussians import Gaussians
from ...media.export import contact_sheet, save_png
from ..draws import Draws
from .networks import Data, Networks, input_views
from .sampling import LatentPictures, sample_few_steps, sample_multiview
from .student import Views


class SheetMaker:
    """Writes ``sheets/<iteration>.png`` of a run.

    Args:
        networks: what is trained.
        average: the running average of ``trained``, the modules (transformer, decoder, ...) in the player's order.
        test: held-out data.
        scenes: how many.
        writes: whether this process writes them; all have to make them, since networks may be sharded.
    """

    def __init__(
        self, networks: Networks, average: nn.ModuleList, test: Data, folder: Path, scenes: int = 4,
        writes: bool = True,
    ):  # fmt: skip
        self.networks, self.average, self.folder, self.writes = networks, average, folder, writes
        self.scenes = [test.sample("multiview", i, 0) for i in range(scenes)]
        self.draws = [Draws(0, "sheet", 0, i) for i in range(scenes)]
        self.pictures = LatentPictures(networks, torch.cat([scene.images for scene in self.scenes]))

    def __call__(self, iteration: int) -> None:
        """Draw and write the sheet of an iteration; what is trained is not changed."""
        sheet = self.draw(f"iteration {iteration}")
        if self.writes:
            save_png(self.folder / "sheets" / f"{iteration:08d}.png", sheet)

    @torch.no_grad()
    def draw(self, title: str):
        """uint8 [H, W, 3]: rows of views by scene."""
        networks, count = self.networks, len(self.scenes)
        transformer, decoder = self.average[0], self.average[1]
        embed = networks.embed
        if len(self.average) > 2:  # the text encoder is trained along: its average goes with the others'
            embed = copy.copy(embed)
            embed.encoder = self.average[2]
        shown = Networks(
            networks.config, networks.student, networks.encoder, embed, networks.device, networks.dtype, False
        )
        rows = []
        for given in (False, True):
            views = input_views(
                shown, self.scenes, self.draws, with_image=[given] * count, with_text=[True] * count
            )  # fmt: skip
            many = self.pictures(sample_multiview(shown, views, self.draws, transformer=transformer))
            first, few = (
                sample_few_steps(shown, views, self.draws, transformer=transformer, decoder=decoder, steps=steps)[0]
                for steps in (1, None)
            )
            for i, scene in enumerate(self.scenes):
                cells = [*scene.images[: scene.views], *many[i], *self._seen(first[i], views[i])]
                name = "image and text" if given else "text"
                rows.append((f"{name}: {scene.prompt}", [*cells, *self._seen(few[i], views[i])]))
        title += ". Truth; multi-view mode, 30 steps; 3D mode, first step; 3D mode, all steps"
        return contact_sheet(rows, cell_width=96, title=title)

    def _seen(self, scene: Gaussians, views: Views) -> list:
        return list(self.networks.road().render(scene, views).clamp(0, 1))
