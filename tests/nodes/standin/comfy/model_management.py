"""Memory management on a machine with one CPU device: what is asked of it is recorded in ``requests``."""

import torch

interrupted = False
requests = []  # (patchers, memory_required) of every load_models_gpu
freed = []  # memory_required of every free_memory
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


def text_encoder_device():
    return torch.device("cpu")


def text_encoder_offload_device():
    return torch.device("cpu")


def intermediate_device():
    return torch.device("cpu")


def is_device_cpu(device):
    return device.type == "cpu"


def should_use_bf16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
    return False


def should_use_fp16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
    return False


def get_free_memory(dev=None, torch_free_too=False):
    return 8 << 30


def free_memory(memory_required, device, keep_loaded=()):
    freed.append(memory_required)
    gone = [
        patcher for patcher in loaded if patcher.load_device == device and memory_required > get_free_memory(device)
    ]
    for patcher in gone:
        patcher.detach()
        loaded.remove(patcher)
    return gone


def unload_all_models():
    free_memory(1e30, get_torch_device())


def soft_empty_cache(force=False):
    pass


def loaded_models(only_currently_used=False):
    return list(loaded)


def load_models_gpu(
    models, memory_required=0, force_patch_weights=False, minimum_memory_required=None, force_full_load=False
):
    requests.append((list(models), memory_required))
    for patcher in models:
        if patcher not in loaded:
            loaded.append(patcher)
        patcher.patch_model(device_to=patcher.load_device)


OOM_EXCEPTION = torch.OutOfMemoryError
