"""Procedural objects: one to four colored solids in a cube, with exact images and surfaces, each from a seed.

World: the cube [-0.5, 0.5]^3 about the origin, y down (OpenCV), light from above. An object fills its cube.
"""

from .draw import ProceduralObject, Solid, draw_object
from .raycast import render_object
from .surface import surface_points

__all__ = ["ProceduralObject", "Solid", "draw_object", "render_object", "surface_points"]
