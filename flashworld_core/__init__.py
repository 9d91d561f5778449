"""FlashWorld core: one image or one sentence, plus a camera path, to a 3D Gaussian scene.

The one rule of this package: it imports no ComfyUI, and importing it neither touches CUDA nor pulls
in a heavy library. Everything public is therefore resolved on first use.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "Cameras": ".cameras",
    "Gaussians": ".gaussians",
    "FlashWorldError": ".errors",
    "Cancelled": ".errors",
    "render": ".rendering.render",
    "RenderOutput": ".rendering.render",
    "load_model": ".generators",
    "open_model": ".generators",
    "Request": ".generators.base",
    "RunOptions": ".generators.base",
    "ViewImage": ".generators.base",
    "Generation": ".generators.base",
    "Progress": ".progress",
    "read_scene": ".formats.scenes",
    "write_scene": ".formats.scenes",
    "read_cameras": ".formats.cameras",
    "write_cameras": ".formats.cameras",
    "make_trajectory": ".trajectories.presets",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | set(_PUBLIC))
