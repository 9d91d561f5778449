"""FlashWorld's networks under ComfyUI's model management: brought when they are used, told what they need, evicted by
the host whenever something else needs the room.

Nothing here holds a model: `LoadedModel` is the value on the socket, and goes when the host drops it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import comfy.model_management as management
import comfy.model_patcher
import torch
from torch import nn

from ...flashworld_core.errors import FlashWorldError
from ...flashworld_core.gaussians import Gaussians
from ...flashworld_core.generators.base import Generator
from ...flashworld_core.runtime.memory import MemoryPlan
from ...flashworld_core.runtime.stages import DEFAULT_CHUNK, Stages
from .layers import use_host_attention, use_host_layers

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
_MARGIN = 0.1  # of the free memory that planning leaves alone
_MORE = 1.5  # times the planned room, where that was too little
OUT_OF_MEMORY = (
    "the device ran out of memory even with one view at a time. Use fewer views (frames of the path), a smaller width "
    "and height, or a lower precision (dtype bf16) in Load FlashWorld Model; closing other programs that use the "
    "graphics card helps too."
)


class Part:
    """One network the host moves between its device and main memory.

    Args:
        name: for the host's log.
        network: on the offload device.
        device, offload_device: where it runs and where it waits; default: the host's choice for big networks.
        streamed: its layers may stay in main memory where the device is too small for all of them.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        device: torch.device | None = None,
        offload_device: torch.device | None = None,
        streamed: bool = False,
    ):
        self.network, self.streamed = network, streamed
        if streamed:
            use_host_layers(network)
        use_host_attention(network)
        # A module of our own around it: the host writes attributes (device and others) that the network's class
        # may define as read-only. Its class name is what the host's log shows.
        holder = type(f"FlashWorld {name}", (nn.Module,), {})()
        holder.network = network
        # Looked up at use: the host puts another class here while it starts.
        patcher = getattr(comfy.model_patcher, "CoreModelPatcher", None) or comfy.model_patcher.ModelPatcher
        self.patcher = patcher(
            holder,
            load_device=device or management.get_torch_device(),
            offload_device=offload_device or management.unet_offload_device(),
        )

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    def bring(self, memory_required: int) -> torch.device:
        """Have the host load it, with ``memory_required`` bytes free for the work besides. Returns its device."""
        management.load_models_gpu([self.patcher], memory_required=memory_required, force_full_load=not self.streamed)
        # What the host's layers do not cover stays behind when the host loads a network only in part.
        for module in self.network.modules():
            if not hasattr(module, "comfy_cast_weights"):
                _bring_own_tensors(module, self.device)
        return self.device

    def __call__(self, memory_required: int, **tensors: torch.Tensor):
        """Bring the network and run it on ``tensors``."""
        device = self.bring(memory_required)
        return self.network(**{name: tensor.to(device) for name, tensor in tensors.items()})


def _bring_own_tensors(module: nn.Module, device: torch.device) -> None:
    """Move a module's own parameters and buffers, not those of the modules in it."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.device != device:
            setattr(module, name, nn.Parameter(parameter.to(device), requires_grad=False))
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.device != device:
            setattr(module, name, buffer.to(device))


class LoadedModel:
    """The value on a FLASHWORLD_MODEL socket: a model and its networks as the host's patchers.

    Attributes:
        model: ready to generate with `stages`.
        parts: the networks the host moves; a VAE or text encoder from a socket is not among them. The largest may
            stay in main memory in part.
        device: where generation runs.
    """

    def __init__(self, model: Generator):
        self.model = model
        sizes = {
            name: sum(parameter.numel() for parameter in network.parameters())
            for name, network in model.networks.items()
            if isinstance(network, nn.Module)
        }
        largest = max(sizes, key=sizes.get, default=None)
        self.parts = {
            name: Part(name, model.networks[name], streamed=name == largest) for name, size in sizes.items() if size
        }
        if hasattr(model.networks.get("text"), "host"):
            model.networks["text"].host(_text_part)

    @property
    def device(self) -> torch.device:
        return next((part.device for part in self.parts.values()), management.get_torch_device())

    def plan(self, views: int, height: int, width: int, views_per_chunk: int | None = None) -> MemoryPlan:
        """What a generation of this size needs, stage by stage."""
        # Host prompts run in inference mode, in which the plan's tensors could not be counted.
        with torch.inference_mode(False):
            return self.model.memory_plan(
                views=views,
                height=height,
                width=width,
                device_type=device_type(self.device),
                views_per_chunk=views_per_chunk,
            )

    def views_per_chunk(self, views: int, height: int, width: int) -> int:
        """How many views to decode, render and encode together: as many as fit when all else has made room."""
        if management.is_device_cpu(self.device):
            return min(DEFAULT_CHUNK, views)
        free = (1 - _MARGIN) * available_memory(self.device)
        streamed = {name for name, part in self.parts.items() if part.streamed}
        for chunk in range(min(DEFAULT_CHUNK, views), 1, -1):
            stages = self.plan(views, height, width, chunk).stages
            if max(s.peak for s in stages if s.stage not in streamed | {"text", "world"}) <= free:
                return chunk
        return 1

    def _comfy_cache_tensors(self) -> list[torch.Tensor]:
        """The tensors newer hosts count when their cache is short of memory."""
        return [tensor for part in self.parts.values() for tensor in part.network.parameters()]

    def stages(self, plan: MemoryPlan, warn: Callable[[str], None]) -> HostStages:
        """The stages of a generation as planned; ``warn`` is told at most once that memory ran out."""
        return HostStages(self.parts, self.device, plan, warn)


class HostStages(Stages):
    """Entering a stage asks the host for the network and for room to work.

    Leaving does nothing: what was brought stays until the host needs its place. A stage that runs out of memory is
    done again, with everything else evicted, more room asked for, and half the views at a time.
    """

    def __init__(self, parts: dict[str, Part], device: torch.device, plan: MemoryPlan, warn: Callable[[str], None]):
        self._parts, self._device, self._needed, self._warn = parts, device, _needed(plan), warn
        self._short_of_memory = False
        self._last_chances: set[str] = set()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[torch.device]:
        if self._short_of_memory:
            self._short_of_memory = False
            make_room()
        part = self._parts.get(name)
        if part is not None:
            yield part.bring(self._needed.get(name, 0))
        elif name == "renderer":
            if not management.is_device_cpu(self._device):
                management.free_memory(self._needed.get(name, 0), self._device)
            yield self._device
        else:  # a text encoder and a VAE from a socket ask the host themselves
            yield management.intermediate_device()

    def recover(self, name: str, error: Exception, chunk: int) -> int | None:
        """See `runtime.stages.retry_on_oom`. What cannot be done in smaller chunks is tried once more."""
        if not is_out_of_memory(error):
            return None
        smaller = chunk if name == "transformer" else max(chunk // 2, 1)
        if smaller == chunk:
            if name in self._last_chances:
                return None
            self._last_chances.add(name)
        if self._warn is not None:
            self._warn("Memory ran out; going on with less at a time. The scene will be the same.")
            self._warn = None
        logger.debug("Out of memory: %s, %d views a chunk.", name, chunk, exc_info=error)
        # The plan was too small for this device: leave more weights behind where they can be.
        self._needed[name] = round(self._needed[name] * _MORE)
        self._short_of_memory = True
        return smaller


def _needed(plan: MemoryPlan) -> dict[str, int]:
    """Bytes that must be free when a stage begins: what it makes, without what the stages before it already hold."""
    needed, held = {}, 0
    for stage in plan.stages:
        if stage.stage == "world":  # works where the scene was rendered
            needed["renderer"] = max(needed["renderer"], stage.activations)
        elif stage.stage != "text":
            needed[stage.stage] = stage.activations + max(stage.held - held, 0)
            held = stage.held
    return needed


def device_type(device: torch.device) -> str:
    """What plans are made for: every accelerator of the host is planned alike."""
    return "cpu" if management.is_device_cpu(device) else "cuda"


def dtype_for(choice: torch.dtype | None, own: torch.dtype | None = None) -> torch.dtype:
    """The precision to load a model in.

    Args:
        choice: what the user asked for; None leaves it to the host.
        own: what the model itself wants where nobody chose.
    """
    device = management.get_torch_device()
    if choice is not None:
        return choice
    if own is not None and not (own == torch.float16 and management.is_device_cpu(device)):
        return own  # float16 is for graphics cards
    if management.is_device_cpu(device):
        return torch.float32
    if management.should_use_bf16(device):
        return torch.bfloat16
    return torch.float16 if management.should_use_fp16(device) else torch.float32


def available_memory(device: torch.device) -> int:
    """Bytes that are free on ``device`` once the host has evicted every model."""
    loaded = (patcher for patcher in management.loaded_models() if patcher is not None)
    held = sum(patcher.loaded_size() for patcher in loaded if patcher.load_device == device)
    return int(management.get_free_memory(device) + held)


def with_clear_errors(work: Callable[[], Result]) -> Result:
    """``work()``; running out of memory becomes an error that says what to change, and the memory is handed back.

    Raises:
        FlashWorldError: out of memory.
    """
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the except block, and no context manager: the error would hold on to every tensor of the failed work.
    make_room()
    raise FlashWorldError(OUT_OF_MEMORY)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the host calls an error out of memory."""
    test = getattr(management, "is_oom", None)
    if test(error) if test is not None else isinstance(error, management.OOM_EXCEPTION):
        return True
    # Main memory, which the host does not count.
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def make_room() -> None:
    """Have the host evict every model and hand the memory back."""
    management.unload_all_models()
    management.soft_empty_cache()


def _text_part(encoder: nn.Module) -> Callable:
    """The text encoder that came with a model, run where the host runs text encoders."""
    part = Part(
        "text encoder",
        encoder,
        management.text_encoder_device(),
        management.text_encoder_offload_device(),
        streamed=True,
    )
    width, layers = encoder.config.d_model, 8  # rows of 512 tokens, scores and feed-forward of one block
    return lambda input_ids: part(layers * 512 * width * 4 + (1 << 28), input_ids=input_ids)


_WORKING = 3  # times the scene's own bytes: the scene, its colors per view, sorting buffers


def on_render_device(scene: Gaussians, work: Callable[[torch.device], Result], warn: Callable[[str], None]) -> Result:
    """``work(device)`` on the host's GPU, after it made room there; on the CPU where none has a fast renderer.

    Args:
        scene: what will be rendered; `work` brings it to the device.
        work: begun anew on the CPU if the device runs out of memory.
        warn: told in that case, in words for the user.
    """
    from ...flashworld_core.rendering.render import has_backend

    device = management.get_torch_device()
    if device.type not in ("cuda", "xpu") or not (has_backend("gsplat") or has_backend("triton")):
        return work(torch.device("cpu"))
    tensors = (scene.means, scene.quats, scene.scales, scene.opacities, scene.sh)
    management.free_memory(_WORKING * 4 * sum(tensor.numel() for tensor in tensors), device)
    try:
        return work(device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the except block: the error holds on to every tensor of the failed run.
    management.soft_empty_cache()
    warn("The graphics card has too little memory for this scene; rendering on the CPU, which takes longer.")
    return work(torch.device("cpu"))


def free_main_memory() -> int:
    """Bytes of main memory the host could still use."""
    return int(management.get_free_memory(torch.device("cpu")))
