"""The recipe `nano`: both stages in about an hour and a half of one CPU core, to see that the method works."""

from __future__ import annotations

from ..config import (
    Conditioning,
    Distillation,
    Optimizer,
    Pretraining,
    Recipe,
    Run,
    Source,
    Tasks,
)

_RUN = Run(
    iterations=3000, batch=8, together=8, dtype="float32", checkpoint_blocks=0, recompute_views=False, save_every=100,
    report_every=20, sheet_every=400, threads=1,
)  # fmt: skip


def nano() -> Recipe:
    """4 views of 48x32 of one plain solid outdoors; a fifth of the pairs of color and kind is kept for "ood"."""
    return Recipe(
        name="nano",
        model="nano",
        license="Apache-2.0 (trained on this project's own procedural scenes)",
        data=(
            Source(simple=True, hold_out=True),
            Source(kind="ood", simple=True, hold_out=True),
        ),
        pretrain=Pretraining(
            run=_RUN,
            optimizer=Optimizer(lr=1.2e-3, weight_decay=1e-3, warmup=100, schedule="cosine"),
            conditioning=Conditioning(image_and_text=0.2, image=0.0, text=0.7, nothing=0.1),
            rendering_share=0.4,
            input_views=2,
            novel_views=2,
            feedback=0.3,
            average=0.998,
            train_text=True,
        ),
        distill=Distillation(
            run=Run(
                iterations=600, batch=8, together=8, dtype="float32", checkpoint_blocks=0, recompute_views=False,
                save_every=40, report_every=20, sheet_every=200, threads=1,
            ),
            student=Optimizer(lr=2e-4, weight_decay=1e-5, warmup=80, schedule="constant"),
            critic=Optimizer(lr=3e-4, weight_decay=1e-5, warmup=20, schedule="constant"),
            head=Optimizer(lr=1e-3, weight_decay=1e-5, warmup=20, schedule="constant"),
            tasks=Tasks(),
            conditioning=Conditioning(image_and_text=0.0, image=0.0, text=1.0, nothing=0.0),
            warm_critic=60,
            rollout_every=4,
            teacher_guidance=1.0,
            student_adversarial_weight=0.02,
            critic_adversarial_weight=0.05,
            r1_weight=10.0,
            r1_every=2,
            average=0.95,
            head_width=32,
        ),
    )  # fmt: skip
