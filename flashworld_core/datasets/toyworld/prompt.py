"""The grammar that puts a scene into words.

scene   := things place | place "," things
things  := thing | thing "and" thing | thing "," ... "and" thing
thing   := article [size] color [pattern] kind
place   := "on a" ground "under a" sky "sky" | "in a room with a" floor "and" walls "walls"
"""

from __future__ import annotations

from .solids import Solid
from .textures import Texture


def _with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _pattern(texture: Texture) -> str:
    return "" if texture.kind == "plain" else texture.kind


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def describe_solid(solid: Solid) -> str:
    """Like "a small blue striped box"."""
    return _with_article(_join(solid.size_word, solid.color_word, _pattern(solid.texture), solid.kind))


def write_prompt(scene, variant: int = 0) -> str:
    """The scene in words; variant 0 names the objects first, 1 the place first."""
    names = [describe_solid(solid) for solid in scene.solids]
    things = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    ground = _join(scene.ground_word, _pattern(scene.ground))
    if scene.room is not None:
        walls = _join(scene.room.walls_word, _pattern(scene.room.walls))
        place = f"in a room with {_with_article(ground)} floor and {walls} walls"
    else:
        place = f"on {_with_article(ground)} ground under {_with_article(scene.sky.word)} sky"
    return f"{things} {place}" if variant == 0 else f"{place}, {things}"
