"""Recipes by name; each is a function that returns a `config.Recipe`."""

from __future__ import annotations

from importlib import import_module

from ...errors import FlashWorldError
from ..config import Recipe

RECIPES = {
    "nano": ".nano:nano",
    "tiny": ".dual_tiny:tiny",
    "full": ".full:full",
}


def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        FlashWorldError: an unknown name.
    """
    if name not in RECIPES:
        raise FlashWorldError(f"There is no recipe {name!r}; known are {', '.join(RECIPES)}.")
    module, _, function = RECIPES[name].partition(":")
    return getattr(import_module(module, __package__), function)()
