"""Memory management on a machine with one CPU device: what is asked of it is recorded in ``requests``."""

import torch

interrupted = False
requests = []  # (patchers, memory_required) of every load_models_gpu
loaded = []


class InterruptProcessingException(Exception):
    pass


def processing_interrupted():
    return interrupted


def throw_exception_if_processing_interrupted():
    global interrupted
    if interrupted:
        interrupted = False
        raise InterruptProcessingException()


def get_torch_device():
    return torch.device("cpu")


def unet_offload_device():
    return torch.device("cpu")


def intermediate_device():
    return torch.device("cpu")


def get_free_memory(dev=None, torch_free_too=False):
    return 8 << 30


def soft_empty_cache(force=False):
    pass


def load_models_gpu(
    models, memory_required=0, force_patch_weights=False, minimum_memory_required=None, force_full_load=False
):
    requests.append((list(models), memory_required))
    for patcher in models:
        if patcher not in loaded:
            loaded.append(patcher)
        patcher.patch_model(device_to=patcher.load_device)


OOM_EXCEPTION = torch.OutOfMemoryError
