"""`VFusion3DModel`: one image of an object to a field, and to Gaussians of that field."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch

from ...checkpoints.assign import cast
from ...errors import FlashWorldError
from ...gaussians import GENERATOR, MODEL_ID, VERSION
from ...models.triplane_field import TriplaneField
from ...ops.field_lattice import MAX_RESOLUTION, MIN_RESOLUTION
from ...ops.field_to_gaussians import RESOLUTION, field_to_gaussians
from ...runtime.memory import MemoryPlan
from ...runtime.stages import ResidentStages
from ..base import Generation, GeneratorInfo, Request, RunOptions
from .cameras import orbit, source_camera, to_world
from .checkpoint import NAME
from .conditioning import centered, object_image
from .config import VFusion3DConfig
from .memory import memory_plan
from .network import VFusion3DNetwork

SPLAT_RESOLUTION = "splat_resolution"  # option: cells along each edge of the cube, see `ops.field_to_gaussians`
_VIEWS, _VIEW_SIZE = 24, 256  # of a result that no cameras were asked for


def info_of(config: VFusion3DConfig, license: str = "", parameters: int = 0) -> GeneratorInfo:
    """Say what a model of these sizes is and takes."""
    size = config.image_size
    return GeneratorInfo(
        NAME, config.model_id, license, 1, size, size, parameters=parameters, kind="object", field=True
    )


@dataclasses.dataclass
class VFusion3DModel:
    """A VFusion3D model ready to run. Implements `generators.base.Generator`.

    Attributes:
        network: in eval mode.
        license: the license of the weights in one line.
    """

    network: VFusion3DNetwork
    license: str = ""

    @property
    def config(self) -> VFusion3DConfig:
        """Sizes."""
        return self.network.config

    @property
    def info(self) -> GeneratorInfo:
        """What the model is and takes."""
        return info_of(self.config, self.license)

    @property
    def dtype(self) -> torch.dtype:
        """The precision the network computes in."""
        return self.network.transformer.pos_embed.dtype

    @property
    def networks(self) -> dict[str, Any]:
        """The networks by stage name."""
        return self.network.stages()

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> VFusion3DModel:
        """Move the network and/or change its precision, in place. Returns itself."""
        cast(self.network, dtype, device)
        return self

    def check(self, request: Request) -> list[str]:
        """Refuse what the model cannot do; remark on what it does not use and on how the mask was found."""
        return check_request(request)

    def memory_plan(
        self, *, views: int, height: int, width: int, device_type: str, views_per_chunk: int | None = None
    ) -> MemoryPlan:
        """Plan the memory of a run in the precision the model was loaded in."""
        size = {"views": views, "height": height, "width": width}
        return memory_plan(self.config, **size, dtype=self.dtype, device_type=device_type)

    def generate(self, request: Request, run: RunOptions | None = None) -> Generation:
        """Make a field of an object from one image.

        Args:
            request: one image with a mask (1 on the object), transparency, or a plain background. Front views work
                best. The cameras, where given, only come back with the result; without any it gets an orbit. Option
                ``splat_resolution``. Nothing is drawn at random: the seed changes nothing.
            run: how.

        Returns:
            Gaussians, and the field they were made of, with its cube's middle at the origin and its front towards -z.

        Raises:
            FlashWorldError: not one image, or one without an object.
            Cancelled: ``run.progress`` wants to stop.
        """
        from ... import __version__

        run = run or RunOptions()
        self.check(request)
        resolution = _splat_resolution(request)
        stages = run.stages or ResidentStages(self.networks)
        progress = run.progress.start(3)
        progress.check()
        image, mask, _ = object_image(request.images[0])
        picture = centered(image, mask, self.config.image_size)
        with torch.no_grad():
            with stages("encoder") as device:
                tokens = self.network.image_tokens(picture[None].to(device, self.dtype))
            progress.advance(1, picture.permute(1, 2, 0))
            progress.check()
            with stages("transformer") as device:
                planes = self.network.planes(tokens.to(device), source_camera().to(device, self.dtype))
            progress.advance()
            progress.check()
        decoder = copy.deepcopy(self.network.synthesizer.decoder).float()
        with stages("renderer") as device:
            metadata = {GENERATOR: NAME, MODEL_ID: self.config.model_id, VERSION: __version__}
            field = TriplaneField(planes[0].float().to(device), decoder.to(device), to_world(), metadata)
            scene = field_to_gaussians(field, resolution, progress=run.progress.silent())
        progress.advance()
        cameras = orbit(_VIEWS, _VIEW_SIZE) if request.cameras is None else request.cameras
        made = Generation(scene, cameras, 0, 1, len(scene), picture.permute(1, 2, 0), field)
        if run.on_step is not None:
            run.on_step(made)
        return made


def check_request(request: Request) -> list[str]:
    """As `VFusion3DModel.check`, which needs no weights."""
    if len(request.images) != 1:
        raise FlashWorldError(f"VFusion3D takes one image of one object, got {len(request.images)}.")
    if unknown := sorted(set(request.options) - {SPLAT_RESOLUTION}):
        raise FlashWorldError(f"VFusion3D knows no option {', '.join(unknown)}; it takes {SPLAT_RESOLUTION}.")
    _splat_resolution(request)
    remark = object_image(request.images[0])[2]
    remarks = [remark] if remark else []
    if request.prompt.strip():
        remarks.append("VFusion3D reads no prompt; it is not used.")
    if request.steps not in (None, 1):
        remarks.append("VFusion3D works in one step; steps is not used.")
    return remarks


def _splat_resolution(request: Request) -> int:
    value = request.options.get(SPLAT_RESOLUTION, RESOLUTION)
    if not isinstance(value, int) or not MIN_RESOLUTION <= value <= MAX_RESOLUTION:
        raise FlashWorldError(
            f"{SPLAT_RESOLUTION} must be a whole number from {MIN_RESOLUTION} to {MAX_RESOLUTION}, got {value!r}."
        )
    return value
