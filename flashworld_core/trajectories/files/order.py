"""The order of views in files that list them in any order."""

from __future__ import annotations

import re


def by_name(names: list) -> list[int]:
    """Indices that put views into the natural order of their image names (2 before 10).

    Reconstruction programs list pictures in the order they were registered; the order along the path is only in the
    names. Where a name is missing, not a string or used twice, the views stay as listed.
    """
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return list(range(len(names)))
    return sorted(range(len(names)), key=lambda i: _natural(names[i]))


def _natural(name: str) -> list:
    """Text and digit runs alternate; digits compare by value, without turning them into (unbounded) integers."""
    parts = re.split(r"([0-9]+)", name)
    return [(len(p.lstrip("0")), p.lstrip("0")) if i % 2 else p for i, p in enumerate(parts)]
