"""ToyWorld: an endless world of small scenes, each a pure function of a seed, for training and judging.

`sample_scene` draws a scene and its prompt, `sample_cameras` a path through it, `novel_cameras` views near
that path, `render_scene` the images and exact depth. `ToyWorld` does all four.
"""

from .paths import novel_cameras, sample_cameras
from .raycast import render_scene
from .scene import SKY_RADIUS, Scene, sample_scene
from .solids import Solid
from .textures import Texture
from .world import ToySample, ToyWorld

__all__ = [
    "SKY_RADIUS",
    "Scene",
    "Solid",
    "Texture",
    "ToySample",
    "ToyWorld",
    "novel_cameras",
    "render_scene",
    "sample_cameras",
    "sample_scene",
]
