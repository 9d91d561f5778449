"""Field to Mesh and Field to Splat: what a FIELD becomes."""

from __future__ import annotations

from ..flashworld_core.ops.field_lattice import MAX_RESOLUTION
from . import sockets
from .comfyui import api, folders
from .comfyui.api import io
from .comfyui.run import NodeRun

MESH_TITLE, SPLAT_TITLE = "Field to Mesh", "Field to Splat"
_FIELD = "A field from Image to Object."


class FieldToMesh(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_FieldToMesh",
            display_name=MESH_TITLE,
            category="FlashWorld",
            description="Makes a mesh of triangles, with colors at its corners, of the surface of a field. For Save "
            "GLB, mesh nodes, games and 3D printing.",
            search_aliases=["marching cubes", "mesh", "glb", "obj", "triplane to mesh", "extract mesh"],
            inputs=[
                api.input(api.Field, "field", tooltip=_FIELD),
                api.input(
                    io.Int,
                    "resolution",
                    default=192,
                    min=16,
                    max=MAX_RESOLUTION,
                    step=16,
                    tooltip="Samples along each edge of the object's cube. Twice as many show finer detail, take eight "
                    "times as long and make four times as many triangles.",
                ),
                api.input(
                    io.Float,
                    "threshold",
                    default=1.0,
                    min=0.001,
                    max=1000.0,
                    step=0.1,
                    round=0.001,
                    tooltip="Density at which the surface lies: lower makes the object fatter and keeps thin parts, "
                    "higher removes haze and thins it.",
                ),
            ],
            outputs=[
                api.output(api.Mesh, "mesh", tooltip="The mesh, for Save GLB and mesh nodes; needs scikit-image."),
                api.output(
                    api.MeshFile, "model_3d", tooltip="The mesh as a GLB file, for Preview 3D; needs trimesh as well."
                ),
            ],
        )

    @classmethod
    def execute(cls, field, resolution=192, threshold=1.0):
        from ..flashworld_core.ops.field_to_mesh import field_to_mesh
        from ..flashworld_core.progress import Progress

        with NodeRun(MESH_TITLE) as run:
            sockets.checked_numbers(threshold=threshold)
            progress = Progress(run.part(0.0, 0.9), run.should_stop)
            mesh = field_to_mesh(sockets.field_in(field), resolution, threshold, progress)
            run.say(f"{len(mesh.vertices):,} corners, {len(mesh.faces):,} triangles")
            turned = mesh.y_up()
            value = api.mesh(turned.vertices, turned.faces, turned.linear_colors())
            return run.output(value, _file(mesh))


def _file(mesh):
    """The mesh as a FILE_3D_GLB in the temp folder; without trimesh, what tells so to who uses it."""
    from ..flashworld_core.formats.meshes import missing_for_meshes, write_mesh

    if missing := missing_for_meshes():
        return api.moved(missing)
    return api.File3D(str(write_mesh(folders.temp_file(".glb")[0], mesh)), "glb")


class FieldToSplat(api.ComfyNode):
    @classmethod
    def define_schema(cls):
        return api.schema(
            node_id="FlashWorld_FieldToSplat",
            display_name=SPLAT_TITLE,
            category="FlashWorld",
            description="Makes 3D Gaussians of a field, finer or coarser than those that come with it.",
            search_aliases=["field to gaussians", "triplane to splat", "nerf to splat"],
            inputs=[
                api.input(api.Field, "field", tooltip=_FIELD),
                api.input(
                    io.Int,
                    "resolution",
                    default=128,
                    min=16,
                    max=MAX_RESOLUTION,
                    step=16,
                    tooltip="Gaussians along each edge of the object's cube. Twice as many are sharper, take eight "
                    "times as long and make about four times as many Gaussians.",
                ),
                api.input(
                    io.Float,
                    "min_opacity",
                    default=0.02,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    round=0.001,
                    tooltip="Gaussians fainter than this are left out: higher removes haze around the object.",
                ),
            ],
            outputs=[api.output(api.Splat, "splat", tooltip="The object as 3D Gaussians.")],
        )

    @classmethod
    def execute(cls, field, resolution=128, min_opacity=0.02):
        from ..flashworld_core.ops.field_to_gaussians import field_to_gaussians
        from ..flashworld_core.progress import Progress

        with NodeRun(SPLAT_TITLE) as run:
            sockets.checked_numbers(min_opacity=min_opacity)
            progress = Progress(run.part(0.0, 1.0), run.should_stop)
            scene = field_to_gaussians(sockets.field_in(field), resolution, min_opacity, progress)
            run.say(f"{len(scene):,} Gaussians")
            return run.output(sockets.splat_from_gaussians(scene))
