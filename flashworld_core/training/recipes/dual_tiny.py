"""The recipe `tiny`: the sizes of `flashworld-tiny`, all of ToyWorld."""

from __future__ import annotations

import dataclasses

from ..config import Conditioning, Pretraining, Recipe, Source
from .nano import nano


def tiny() -> Recipe:
    """8 views of 96x64 of all of ToyWorld: hours on a GPU, days on a CPU."""
    small = nano()
    return dataclasses.replace(
        small,
        name="tiny",
        model="tiny",
        data=(Source(), Source(kind="ood")),
        pretrain=dataclasses.replace(
            small.pretrain,
            run=dataclasses.replace(
                small.pretrain.run, iterations=40_000, batch=16, together=4, save_every=500, sheet_every=2000,
                report_every=50, threads=0,
            ),
            optimizer=dataclasses.replace(small.pretrain.optimizer, lr=6e-4, warmup=500),
            conditioning=Conditioning(),
            input_views=Pretraining.input_views,
            novel_views=Pretraining.novel_views,
        ),
        distill=dataclasses.replace(
            small.distill,
            run=dataclasses.replace(small.distill.run, iterations=8000, batch=16, together=4, threads=0),
            conditioning=Conditioning(nothing=0.0),
            rendering_weight=0.5,
        ),
    )  # fmt: skip
