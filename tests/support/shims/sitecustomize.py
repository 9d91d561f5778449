"""Lets a ComfyUI host start on a CPU-only torch whose torchvision and torchaudio were built for CUDA, or are missing.

The harness puts this folder on the PYTHONPATH of the hosts it starts; python imports ``sitecustomize`` by itself.
Nothing happens until the host imports torchvision or torchaudio, and nothing at all where those work on their own:

* torchvision whose compiled part did not load: the schemas of the operators its python part registers gradients and
  shape functions for are defined, without implementations. ComfyUI core takes only image transforms from it: python.
* torchaudio that cannot be found: an empty module. The nodes of ComfyUI that use it are audio nodes; they fail if run.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries = []  # torch drops a library's definitions when the object goes


class _TorchvisionSchemas:
    """First in line for the modules that register onto operators: defines what is missing, finds nothing."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in ("torchvision._autograd_registrations", "torchvision._meta_registrations"):
            import torch

            if not hasattr(torch.ops.torchvision, "nms"):
                library = torch.library.Library("torchvision", "DEF")
                library.define("nms" + NMS)
                library.define("qnms" + NMS)
                _libraries.append(library)


class _EmptyTorchaudio:
    """Last in line: asked only when no installed torchaudio was found."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
            return importlib.util.spec_from_loader(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__version__ = "0"


sys.meta_path.insert(0, _TorchvisionSchemas())
sys.meta_path.append(_EmptyTorchaudio())
