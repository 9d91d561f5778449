"""Place Object in Scene: one SPLAT into another, by position or where a pixel of a view is."""

from __future__ import annotations

from ..flashworld_core.errors import FlashWorldError
from ..flashworld_core.ops.place import ANCHORS
from . import sockets
from .comfyui import api
from .comfyui.api import io
from .comfyui.run import NodeRun

TITLE = "Place Object in Scene"
WHERE = ("pixel", "position")
_FAR = 1_000_000.0  # world units
_PREVIEW_SIZE = 640, 480  # where only a single camera is known


class PlaceObject(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        def number(id: str, default: float, limit: float, step: float, tooltip: str, low: float | None = None):
            low = -limit if low is None else low
            return api.input(
                io.Float, id, default=default, min=low, max=limit, step=step, round=0.0001, tooltip=tooltip
            )

        return api.schema(
            node_id="FlashWorld_PlaceObject",
            display_name=TITLE,
            category="FlashWorld",
            description="Puts an object into a scene: on the ground where you point in a view, or at a position. Its "
            "colors turn along with it.",
            search_aliases=["merge splat", "compose", "insert object", "add object", "transform splat"],
            inputs=[
                api.input(api.Splat, "scene", tooltip="The scene the object goes into."),
                api.input(api.Splat, "object", tooltip="The object, from Image to Object or any node with a SPLAT."),
                api.input(
                    io.Combo,
                    "where",
                    options=list(WHERE),
                    default="pixel",
                    tooltip="How the place is told: pixel stands the object on what the view shows at pixel_x, "
                    "pixel_y; position takes position_x, position_y, position_z.",
                ),
                number("pixel_x", 0.5, 1.0, 0.01, "Across the view: 0 is its left edge, 1 its right. Pixel only.", 0.0),
                number("pixel_y", 0.75, 1.0, 0.01, "Down the view: 0 is its top, 1 its bottom. Pixel only.", 0.0),
                api.input(
                    io.Int,
                    "view",
                    default=0,
                    min=0,
                    max=sockets.MAX_FRAMES,
                    tooltip="Which view of the trajectory pixel_x and pixel_y are about, and the preview shows, from "
                    "0. Without a trajectory the scene's own first view is taken.",
                ),
                number("position_x", 0.0, _FAR, 0.05, "Scene units, larger is further right. Position only."),
                number("position_y", 0.0, _FAR, 0.05, "Scene units, larger is further down. Position only."),
                number("position_z", 2.0, _FAR, 0.05, "Scene units, larger is further ahead. Position only."),
                number("scale", 0.5, 10_000.0, 0.05, "Factor on the object's size: 2 is twice as large.", 0.0001),
                number("turn", 0.0, 360.0, 5.0, "Degrees about the vertical: higher turns its front to your left."),
                number("tilt", 0.0, 360.0, 5.0, "Degrees to lean forward: higher brings its top to the viewer."),
                number("roll", 0.0, 360.0, 5.0, "Degrees to lean sideways: higher leans its top to your right."),
                api.input(
                    io.Boolean,
                    "face_viewer",
                    default=True,
                    tooltip="Show the object's front to the view first; turn then counts from there. Off, its front "
                    "looks along the scene's axes, against z.",
                ),
                api.input(
                    io.Combo,
                    "anchor",
                    options=list(ANCHORS),
                    default="bottom",
                    advanced=True,
                    tooltip="What of the object goes to the place: the middle of its lower end, the middle of its box, "
                    "or its own origin.",
                ),
                api.input(
                    api.Trajectory, "trajectory", optional=True, tooltip="The path whose view the place is chosen in."
                ),
            ],
            outputs=[
                api.output(api.Splat, "splat", tooltip="The scene with the object in it."),
                api.output(io.Image, "image", tooltip="The view with the object in it."),
            ],
        )

    @classmethod
    def execute(
        cls, scene, object, where="pixel", pixel_x=0.5, pixel_y=0.75, view=0, position_x=0.0, position_y=0.0,
        position_z=2.0, scale=0.5, turn=0.0, tilt=0.0, roll=0.0, face_viewer=True, anchor="bottom", trajectory=None,
    ):  # fmt: skip
        with NodeRun(TITLE) as run:
            sockets.checked_choice("where", where, WHERE)
            position, angles = (position_x, position_y, position_z), (turn, tilt, roll)
            place = (pixel_x, pixel_y) if where == "pixel" else None
            made, image = put(run, scene, object, place, position, scale, angles, face_viewer, anchor, view, trajectory)
            return run.output(sockets.splat_from_gaussians(made), sockets.image_out(image))


def put(run: NodeRun, scene, thing, pixel, position, scale, angles, face_viewer, anchor, view, trajectory):
    """The node's work: the scene with the object in it as `Gaussians`, and the view [1, H, W, 3].

    Args:
        pixel: (x, y) in 0..1 of the view; None: ``position`` counts.
        angles: turn, tilt and roll in degrees.

    Raises:
        FlashWorldError: inputs that do not fit, or nothing of the scene at the pixel.
    """
    from ..flashworld_core.ops.place import Placement, box, filters_differ, place, placed, turn_towards
    from ..flashworld_core.rendering.pick import point_at
    from ..flashworld_core.rendering.render import render

    sockets.checked_numbers(
        position_x=position[0], position_y=position[1], position_z=position[2], scale=scale, turn=angles[0],
        tilt=angles[1], roll=angles[2],
    )  # fmt: skip
    scene, thing = sockets.renderable_scene(scene), sockets.renderable_scene(thing)
    camera = camera_for(scene, trajectory, view)
    if pixel is not None:
        position = point_at(scene, camera, *pixel).tolist()
    turn = angles[0] + (turn_towards(position, camera.positions[0].tolist()) if face_viewer else 0.0)
    placement = Placement(position, turn, angles[1], angles[2], scale, anchor)
    low, high = box(placed(thing, placement))
    width, height, depth = (high - low).tolist()
    distance = float((camera.positions[0].double().cpu() - (low + high) / 2).norm())
    run.say(
        f"At {position[0]:.3g}, {position[1]:.3g}, {position[2]:.3g}: {width:.3g} wide, {height:.3g} tall, "
        f"{depth:.3g} deep, {distance:.3g} scene units from the view."
    )
    if filters_differ(scene, thing):
        run.say(
            "Scene and object were made for different filters; fine parts of the object may look fainter or denser."
        )
    made = place(scene, thing, placement)
    image = render(made, camera, background="white", should_stop=run.should_stop).rgb
    return made, image


def camera_for(scene, trajectory, view: int):
    """The view of the path, else the scene's own first view.

    Raises:
        FlashWorldError: no such view, or none at all.
    """
    from ..flashworld_core.trajectories.comfyui import from_load3d

    if trajectory is not None:
        cameras = sockets.checked_trajectory(trajectory)
        if not 0 <= view < len(cameras):
            raise FlashWorldError(f"view {view} does not exist; the path has views 0 to {len(cameras) - 1}.")
        return cameras[view]
    own = sockets.camera_of(scene)
    if own is None:
        raise FlashWorldError("the scene names no view of its own: connect a camera path to trajectory.")
    return from_load3d(own, *_PREVIEW_SIZE)
