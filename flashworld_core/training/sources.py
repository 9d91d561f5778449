"""A recipe's data and texts, opened and checked before any hours are spent."""

from __future__ import annotations

import itertools

from ..errors import FlashWorldError
from ..text import get_logger
from .config import Recipe

log = get_logger(__name__)
_CHECKED_PROMPTS = 100_000


def open_data(recipe: Recipe, config, *, seed: int, split: str = "train"):
    """The data of a recipe as `flashworld.networks.Data`.

    Args:
        config: the model's sizes.
        split: of ToyWorld, "train" or "test"; sets on disk have no split.

    Raises:
        FlashWorldError: no source, one without an index, or one that does not fit its kind or the model.
    """
    from ..datasets import READERS
    from .flashworld.mixture import MixtureData

    for source in recipe.data:
        if source.name not in (*READERS, "toyworld"):
            known = ", ".join(("toyworld", *READERS))
            raise FlashWorldError(f"The recipe's source {source.name!r} is not known; known are {known}.")
    toy = [source for source in recipe.data if source.name == "toyworld"]
    options = {
        "split": split, "simple": any(source.simple for source in toy),
        "hold_out": any(source.hold_out for source in toy),
    }  # fmt: skip
    # Upright clips keep their shape where samples go through the networks one by one.
    alone = max(recipe.pretrain.run.together, recipe.distill.run.together) == 1
    return MixtureData(config, recipe.data, seed=seed, turn=alone, toyworld=options)


def check_data(recipe: Recipe, stage: str, data) -> None:
    """Refuse data the stage cannot be trained on.

    Raises:
        FlashWorldError: a kind that is missing, or terms of the recipe that need depth the data do not have.
    """
    kinds = {source.kind for source in recipe.data}
    if "multiview" not in kinds and (stage == "pretrain" or recipe.distill.data.multiview > 0):
        raise FlashWorldError("The recipe has no multi-view data; add a source of kind multiview.")
    if stage == "distill" and recipe.distill.data.ood > 0 and "ood" not in kinds:
        raise FlashWorldError("Stage 2 has no ood data; add a source of kind ood, or set distill.data.ood=0.")
    needing = ("distance_weight", "redundancy_weight")
    wanted = [name for name in needing if stage == "pretrain" and getattr(recipe.pretrain, name) > 0]
    if wanted and not data.has_distance:
        raise FlashWorldError(f"pretrain.{wanted[0]} needs true depth, which only ToyWorld has; set it to 0.")


def open_text_cache(recipe: Recipe, config, data):
    """The text embeddings of ``recipe.text_cache``, or None where the recipe names none.

    Raises:
        FlashWorldError: no cache there, one of another encoder, or prompts of the data that are not in it.
    """
    if not recipe.text_cache:
        return None
    from ..datasets.text_cache import TextCache

    cache = TextCache(
        recipe.text_cache, text_dim=config.transformer.text_dim, text_length=config.text_length,
        prompt_prefix=config.prompt_prefix,
    )  # fmt: skip
    cache.check(itertools.islice(itertools.chain([""], data.prompts()), _CHECKED_PROMPTS))
    return cache
