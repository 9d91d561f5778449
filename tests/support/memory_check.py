"""Runs inside a real ComfyUI's python: FlashWorld's networks through the host's own memory management, on the CPU.

python memory_check.py HOST PACK      prints one line of JSON, see `main`
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import tempfile
import weakref


def prepare(host: str, pack: str) -> None:
    """The host's modules, as its main.py imports them, and the pack under a name of its own."""
    sys.argv = ["main.py", "--cpu"]
    os.chdir(host)
    sys.path.insert(0, host)
    import comfy.options

    comfy.options.enable_args_parsing()
    import utils.extra_config  # noqa: F401  before another "utils" can take the name

    spec = importlib.util.spec_from_file_location("flashworld_checked", os.path.join(pack, "__init__.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["flashworld_checked"] = module
    spec.loader.exec_module(module)


def streamed(part, torch, inputs) -> dict:
    """The transformer loaded in part, and after a part of that was evicted: still the same numbers?"""
    import comfy.model_management as management

    patcher, size = part.patcher, part.patcher.model_size()
    found = {}
    management.unload_all_models()
    with torch.inference_mode():
        whole = part.network(*inputs)
        patcher.partially_load(part.device, extra_memory=size // 2)
        found["lowvram"] = patcher.model.model_lowvram
        found["loaded_share"] = patcher.loaded_size() / size
        found["equal_in_part"] = all(torch.equal(a, b) for a, b in zip(part.network(*inputs), whole, strict=True))
        patcher.partially_unload(patcher.offload_device, size // 4)
        found["equal_after_eviction"] = all(
            torch.equal(a, b) for a, b in zip(part.network(*inputs), whole, strict=True)
        )
        patcher.detach()
        found["equal_after_detach"] = all(torch.equal(a, b) for a, b in zip(part.network(*inputs), whole, strict=True))
    return found


def main(host: str, pack: str) -> dict:
    """Figures and truths for the test that started this."""
    prepare(host, pack)
    import comfy.model_management as management
    import torch
    from flashworld_checked.flashworld_core.generators import load_model
    from flashworld_checked.flashworld_core.generators.base import Request
    from flashworld_checked.flashworld_core.models.umt5 import PROMPT_CACHE
    from flashworld_checked.flashworld_core.trajectories.presets import make_trajectory
    from flashworld_checked.nodes import generate, load
    from flashworld_checked.nodes.comfyui import folders, memory
    from flashworld_checked.nodes.comfyui.run import NodeRun

    torch.set_num_threads(1)
    folders.register_model_folder()
    path = make_trajectory("orbit", views=3, amount=20.0, width=96, height=64)
    expected = load_model("tiny").generate(Request(path, prompt="a red cube", seed=5, steps=2)).gaussians

    PROMPT_CACHE.clear()  # so that the text encoder has something to do

    def scene(loaded):
        return generate.generate(NodeRun("check"), loaded, path, "a red cube", 5, 2, 0)[0].sh[0]

    found = {}
    with torch.inference_mode():
        loaded = load.load(NodeRun("check"), load.EMBEDDED, "auto")
        found["loaded_at_first"] = len(management.current_loaded_models)
        found["equal"] = torch.equal(scene(loaded), expected.sh)
        found["loaded"] = sorted(type(p.model).__name__ for p in management.loaded_models())
        management.unload_all_models()
        found["loaded_after_unload"] = len(management.current_loaded_models)
        found["equal_again"] = torch.equal(scene(loaded), expected.sh)
    found["equal_outside"] = torch.equal(scene(loaded), expected.sh)
    config, g = loaded.model.config, torch.Generator().manual_seed(0)
    inputs = (
        torch.randn(1, config.input_channels, 2, 4, 6, generator=g),
        torch.tensor([700.0]),
        torch.randn(1, config.text_length, config.transformer.text_dim, generator=g),
    )
    for dtype in (torch.float32, torch.bfloat16):  # half precision keeps some layers in single precision
        part = memory.LoadedModel(load_model("tiny", dtype=dtype)).parts["transformer"]
        found[str(dtype)] = streamed(part, torch, inputs) | {"bytes": part.patcher.model_size()}
    from flashworld_checked.flashworld_core.generators import model_path, open_model

    folder = model_path("tiny")
    beside = {"vae": folder / "vae.safetensors", "text_encoder": folder / "text_encoder"}
    for dtype in ("fp8", "int8"):
        file = open_model("tiny").convert(os.path.join(tempfile.mkdtemp(), "x.safetensors"), dtype)
        model = open_model(file).load(dtype=torch.bfloat16, parts=beside)
        with torch.inference_mode():
            alone = model.transformer(*inputs)
        part = memory.LoadedModel(model).parts["transformer"]
        found[dtype] = streamed(part, torch, inputs)
        with torch.inference_mode():
            same = [torch.equal(a, b) for a, b in zip(part.network(*inputs), alone, strict=True)]
        found[dtype]["equal_to_the_core"] = all(same)
        found[dtype]["bytes"] = part.patcher.model_size()
    found["oom_is_known"] = memory.is_out_of_memory(torch.OutOfMemoryError("x"))
    found["others_are_not"] = not memory.is_out_of_memory(RuntimeError("x"))
    network = weakref.ref(loaded.model.transformer)
    del loaded
    gc.collect()
    found["gone"] = network() is None
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
