"""Requests and runs from keyword arguments, for tests that change one thing at a time."""

from __future__ import annotations

from flashworld_core.gaussians import Gaussians
from flashworld_core.generators.base import Request, RunOptions, ViewImage
from flashworld_core.progress import Progress

RUN = ("stages", "views_per_chunk", "backend", "on_step")
OPTIONS = ("text_embeds", "noise")


def make_request(cameras, image=None, image_index=0, width=None, height=None, **fields) -> Request:
    """A `Request`; one of ``width`` and ``height`` alone keeps the other of the cameras."""
    size = None
    if width is not None or height is not None:
        size = (cameras.width if width is None else width, cameras.height if height is None else height)
    options = {name: fields.pop(name) for name in OPTIONS if name in fields}
    images = () if image is None else (ViewImage(image, image_index),)
    return Request(cameras, images, size=size, options=options, **fields)


def generate(model, cameras, progress=None, should_stop=None, **arguments) -> Gaussians:
    """The scene of ``model.generate`` for what `make_request` and `RunOptions` take."""
    run = {name: arguments.pop(name) for name in RUN if name in arguments}
    request = make_request(cameras, **arguments)
    return model.generate(request, RunOptions(**run, progress=Progress(progress, should_stop))).gaussians


def prepare(model, cameras, **arguments):
    """``model.prepare`` for what `make_request` takes."""
    return model.prepare(make_request(cameras, **arguments))
