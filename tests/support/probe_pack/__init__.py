"""A custom node pack for the tests only: says over HTTP what models the host holds in memory, and ends the host when
whoever started it is gone.
"""

import gc
import os
import threading
import time

import torch
from aiohttp import web
from server import PromptServer


@PromptServer.instance.routes.get("/flashworld_probe/models")
async def models(request: web.Request) -> web.Response:
    """``managed``: class names of the models under ComfyUI's management. ``modules``: how many torch modules are alive
    that classes of the pack (or diffusers) made. ``parameter_bytes``: bytes of all live parameters, each storage once.
    """
    import comfy.model_management as management

    gc.collect()
    managed = [
        type(loaded.model.model).__name__ for loaded in management.current_loaded_models if loaded.model is not None
    ]
    modules, storages = 0, {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.nn.Module) and ("flashworld" in type(thing).__module__.lower()):
            modules += 1
        elif isinstance(thing, torch.nn.Parameter):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return web.json_response({"managed": managed, "modules": modules, "parameter_bytes": sum(storages.values())})


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)


threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
NODE_CLASS_MAPPINGS = {}
