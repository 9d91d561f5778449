"""The part of ``comfy_api.latest.io`` the pack uses, as the oldest supported host (0.3.60) has it."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any


class Input:
    def __init__(self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None):
        self.id, self.display_name, self.optional, self.tooltip, self.lazy = id, display_name, optional, tooltip, lazy
        self.extra_dict = extra_dict or {}


class WidgetInput(Input):
    def __init__(
        self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, default=None, socketless=None,
        widget_type=None, force_input=None, extra_dict=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
        self.default, self.force_input = default, force_input


class Output:
    def __init__(self, id=None, display_name=None, *, tooltip=None, is_output_list=False):
        self.id, self.display_name, self.tooltip, self.is_output_list = id, display_name or id, tooltip, is_output_list


def _type(io_type: str, base=Input) -> type:
    """A ComfyType whose Input and Output know it."""
    cls = type(io_type, (), {"io_type": io_type})
    cls.Input = type("Input", (base,), {"io_type": io_type, "Parent": cls})
    cls.Output = type("Output", (Output,), {"io_type": io_type, "Parent": cls})
    return cls


def Custom(io_type: str) -> type:
    return _type(io_type)


class _Int(WidgetInput):
    def __init__(
        self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
        step=None, control_after_generate=None, display_mode=None, socketless=None, force_input=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.min, self.max, self.step, self.control_after_generate = min, max, step, control_after_generate


class _Float(WidgetInput):
    def __init__(
        self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
        step=None, round=None, display_mode=None, *, socketless=None, force_input=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.min, self.max, self.step, self.round = min, max, step, round


class _String(WidgetInput):
    def __init__(
        self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, multiline=False, placeholder=None,
        default=None, dynamic_prompts=None, socketless=None, force_input=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.multiline, self.placeholder, self.dynamic_prompts = multiline, placeholder, dynamic_prompts


class _Boolean(WidgetInput):
    def __init__(
        self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, default=None, label_on=None,
        label_off=None, socketless=None, force_input=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)


class _Combo(WidgetInput):
    def __init__(
        self, id: str, options=None, display_name=None, optional=False, tooltip=None, lazy=None, default=None,
        control_after_generate=None, upload=None, image_folder=None, remote=None, socketless=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, None)
        self.options = options


Int, Float, String = _type("INT", _Int), _type("FLOAT", _Float), _type("STRING", _String)
Boolean, Combo = _type("BOOLEAN", _Boolean), _type("COMBO", _Combo)
Image, Mask, Conditioning, Clip, Vae = (_type(t) for t in ("IMAGE", "MASK", "CONDITIONING", "CLIP", "VAE"))
Video, WanCameraEmbedding, Load3DCamera = (_type(t) for t in ("VIDEO", "WAN_CAMERA_EMBEDDING", "LOAD3D_CAMERA"))


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"


@dataclasses.dataclass
class Schema:
    node_id: str
    display_name: str = None
    category: str = "sd"
    inputs: list[Input] = None
    outputs: list[Output] = None
    hidden: list[Hidden] = None
    description: str = ""
    _: dataclasses.KW_ONLY  # later hosts put fields between these
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False


class _Holder:
    prompt: Any = None
    extra_pnginfo: Any = None
    unique_id: Any = None


class ComfyNode:
    hidden = _Holder()

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        schema = cls.define_schema()
        ids = [thing.id for thing in [*(schema.inputs or []), *(schema.outputs or [])]]
        twice = sorted({id for id in ids if ids.count(id) > 1})
        if twice:
            raise ValueError(f"Ids must be unique between inputs and outputs, but {twice} are not.")
        return schema


class NodeOutput:
    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution

    @property
    def result(self):
        return self.args if len(self.args) > 0 else None

    def __getitem__(self, index):
        return self.args[index]
