"""A recipe's data sources, opened."""

from __future__ import annotations

from ..errors import FlashWorldError
from .config import Recipe


def open_data(recipe: Recipe, config, *, seed: int, split: str = "train"):
    """The data of a recipe as `flashworld.networks.Data`.

    Args:
        config: the model's sizes.
        split: "train" or "test".

    Raises:
        FlashWorldError: a source that is not known, or none at all.
    """
    from .flashworld.toyworld import ToyWorldData

    if not recipe.data:
        raise FlashWorldError("The recipe names no data; add one under data.")
    toy = [source for source in recipe.data if source.name == "toyworld"]
    if len(toy) == len(recipe.data):
        return ToyWorldData(
            config, seed=seed, split=split, simple=toy[0].simple, hold_out=any(source.hold_out for source in toy)
        )
    raise FlashWorldError(
        f"The recipe's source {next(s.name for s in recipe.data if s.name != 'toyworld')!r} is not known; "
        "known is toyworld."
    )
