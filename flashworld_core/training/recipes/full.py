"""The recipe `full`: the paper's sizes, lengths and learning rates; what the paper leaves open has our defaults."""

from __future__ import annotations

from ..config import Recipe, Source


def full() -> Recipe:
    """24 views of 704x480 from Wan 2.2 TI2V 5B; `data` and `start` are yours to fill in."""
    return Recipe(
        name="full",
        model="full",
        data=(
            Source("mvimgnet"),
            Source("realestate10k", strides=tuple(range(5, 13))),
            Source("dl3dv", strides=(2, 3, 4)),
            Source("image_text", kind="ood"),
        ),
    )
