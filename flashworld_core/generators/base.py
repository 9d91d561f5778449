"""The records and the protocol of every generator: what is asked, how it runs, what comes back."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..cameras import Cameras
from ..fields import Field
from ..gaussians import Gaussians
from ..progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from ..media.images import ImageLike
    from ..models.umt5 import TextSpec
    from ..models.wan_vae_blocks import WanVaeConfig
    from ..rendering.render import Backend
    from ..runtime.memory import MemoryPlan
    from ..runtime.stages import Stages


@dataclasses.dataclass(frozen=True)
class ViewImage:
    """An image and the view of the path that it shows.

    Attributes:
        image: anything `media.images.open_image` takes: path, data URL, Pillow image, array or tensor [H, W, 3].
        view: index of the camera whose view it is, 0-based.
        mask: [H, W] in [0, 1], 1 where the image counts; None: everywhere.
    """

    image: ImageLike
    view: int = 0
    mask: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of a generator; the same record for every one.

    Attributes:
        cameras: the path, in the user's world (OpenCV axes). Every camera is one generated view. Generators of objects
            need none: an object stands at the origin and shows its front towards -z.
        images: the images the scene is made from; none: from the prompt alone.
        prompt: the text, without any prefix.
        seed: of every random draw, 0..2^64 - 1.
        steps: None for the model's own; a number of steps; or what a generator takes as a list (FlashWorld: rising
            indices into its noise schedule).
        size: (width, height) of the generated views in pixels; None: the cameras' own. Cameras of the original
            image's size are carried along with its crop.
        views: resample the path to this many cameras; None takes them as they are.
        options: what only some generators take, by name; `Generator.check` refuses names it does not know.
    """

    cameras: Cameras | None
    images: tuple[ViewImage, ...] = ()
    prompt: str = ""
    seed: int = 0
    steps: int | tuple[int, ...] | None = None
    size: tuple[int, int] | None = None
    views: int | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class RunOptions:
    """How a generation runs. Nothing here changes the result.

    Attributes:
        stages: loads and unloads networks; None leaves each where it is.
        views_per_chunk: views decoded, rendered and encoded together: the knob for peak memory. None chooses.
        backend: the rasterizer.
        progress: where to report, and whether to stop.
        on_step: called with a `Generation` at the end of each step.
    """

    stages: Stages | None = None
    views_per_chunk: int | None = None
    backend: Backend = "auto"
    progress: Progress = dataclasses.field(default_factory=Progress)
    on_step: Callable[[Generation], None] | None = None


@dataclasses.dataclass(frozen=True)
class Generation:
    """A scene and the views it was generated at: the result, and what ``on_step`` gets after every step.

    Attributes:
        scene: the scene in the user's world, or ``scene(count)`` that makes it when asked: at most ``count``
            Gaussians, those that show most from the views; None for all.
        cameras: the generated views, in the user's world, intrinsics for the generated size; of an object: views
            around it.
        step: the finished step, 0-based.
        steps: how many steps there are.
        count: Gaussians of the whole scene.
        preview: [H, W, 3] float32 in [0, 1] on the CPU, views of the scene so far; None where there is none.
        field: what the scene was made from, where that is a field; `ops.field_to_mesh` makes a mesh of it.
    """

    scene: Gaussians | Callable[[int | None], Gaussians]
    cameras: Cameras
    step: int = 0
    steps: int = 1
    count: int = 0
    preview: Tensor | None = None
    field: Field | None = None

    @functools.cached_property
    def gaussians(self) -> Gaussians:
        """The whole scene; made when first asked for, since it may be a copy."""
        return self.scene if isinstance(self.scene, Gaussians) else self.scene(None)

    def most_important(self, count: int) -> Gaussians:
        """Return at most ``count`` Gaussians: a preview at a fraction of what a copy of the scene takes."""
        if callable(self.scene):
            return self.scene(count)
        from ..ops.select import budget

        return budget(self.scene, count, self.cameras.positions)


@dataclasses.dataclass(frozen=True)
class GeneratorInfo:
    """What a model is and what it takes, known before its weights are read.

    Attributes:
        name: of the generator, as in `generators.GENERATORS`.
        model_id: which weights.
        license: the weights' license in one line, shown where the model is loaded; empty: the file names none.
        views, width, height, steps: what the model was made for.
        size_multiple: (columns, rows) that widths and heights must be multiples of.
        max_views: the most views it can make at once.
        text: the text encoder it needs; None: it reads no prompt.
        vae: the VAE it needs; None: it has none.
        parameters: how many numbers its own networks have; 0: unknown.
        kind: "scene", along a camera path; or "object", from images of it.
        max_images: the most images it takes.
        image_encoder: its image encoder is a file of its own, which may have to be given.
        field: its results are fields (`Generation.field`) before they are Gaussians.
    """

    name: str
    model_id: str
    license: str = ""
    views: int = 1
    width: int = 512
    height: int = 512
    steps: int = 1
    size_multiple: tuple[int, int] = (1, 1)
    max_views: int = 1 << 16
    text: TextSpec | None = None
    vae: WanVaeConfig | None = None
    parameters: int = 0
    kind: str = "scene"
    max_images: int = 1
    image_encoder: bool = False
    field: bool = False


@runtime_checkable
class Generator(Protocol):
    """A loaded model that makes scenes.

    Attributes:
        info: what it is and takes.
        networks: its parts by stage name, as `runtime.stages.Stages` wants them. The text encoder is ``text``, None
            where embeddings must be given instead.
    """

    info: GeneratorInfo
    networks: Mapping[str, Any]

    @property
    def dtype(self) -> torch.dtype:
        """The precision the networks compute in."""
        ...

    def check(self, request: Request) -> list[str]:
        """Refuse a request that cannot be carried out; return remarks about one that can.

        Raises:
            FlashWorldError: what is wrong and what to do.
        """
        ...

    def memory_plan(
        self, *, views: int, height: int, width: int, device_type: str, views_per_chunk: int | None = None
    ) -> MemoryPlan:
        """Plan the memory of a generation, stage by stage, in the precision the model was loaded in."""
        ...

    def generate(self, request: Request, run: RunOptions | None = None) -> Generation:
        """Carry a request out.

        Raises:
            FlashWorldError: as `check`.
            Cancelled: ``run.progress.should_stop`` answered True.
        """
        ...

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> Generator:
        """Move the networks and/or change their precision, in place; return the model itself."""
        ...


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A model found on disk, with nothing of it loaded: what can be shown and planned before it is.

    Attributes:
        info: what it is and takes.
        load: ``load(dtype=, device=, parts=, progress=) -> Generator``. ``parts`` are the text encoder and VAE by
            "text_encoder" and "vae": files, folders or ready objects, in place of those found beside the model.
        memory_plan: ``memory_plan(views=, height=, width=, dtype=, device_type=, views_per_chunk=) -> MemoryPlan``;
            every argument has the model's own as its default.
        compute_dtype: the precision it wants to run in where nobody asks for another; None: that of the file.
        found: parts that lie beside the model, by the names of ``parts``.
        convert: ``convert(target, dtype, progress=)`` writes the model as one safetensors file and returns its path;
            None: the generator has no such form.
        check: ``check(request) -> list[str]``, as `Generator.check`, for what can be told before anything is loaded;
            None: only the loaded model can tell.
        operations: ``operations(views=, height=, width=, steps=) -> int``, the floating-point operations of a
            generation, with the model's own as defaults; None: nobody has counted them.
    """

    info: GeneratorInfo
    load: Callable[..., Generator]
    memory_plan: Callable[..., MemoryPlan]
    compute_dtype: str | None = None
    found: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    convert: Callable[..., Path] | None = None
    check: Callable[[Request], list[str]] | None = None
    operations: Callable[..., int] | None = None
