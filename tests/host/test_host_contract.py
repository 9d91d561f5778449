"""Every node of the pack is in the real host with the inputs and outputs saved workflows rely on, in their order."""

from __future__ import annotations

from typing import Any

import pytest
from host_graphs import inputs_of

pytestmark = pytest.mark.host

# Inputs are name:type, the widgets in the order of widgets_values (new ones come last); ? marks optional ones.
CONTRACT = {
    "FlashWorld_LoadModel": (
        "model:COMBO dtype:COMBO vae:VAE? clip:CLIP? compile:BOOLEAN?",
        "FLASHWORLD_MODEL",
    ),
    "FlashWorld_CameraPath": (
        "source:COMBO preset:COMBO amount:FLOAT moves:STRING frames:INT width:INT height:INT field_of_view:FLOAT "
        "focus_distance:FLOAT easing:COMBO turns:FLOAT keyframes:STRING path_file:COMBO "
        "up:COMBO? dataparser:COMBO? image_width:INT? image_height:INT?",
        "FLASHWORLD_TRAJECTORY LOAD3D_CAMERA WAN_CAMERA_EMBEDDING LOAD3D_CAMERA",
    ),
    "FlashWorld_LoadCameraPath": (
        "file:COMBO frames:INT width:INT height:INT up:COMBO? dataparser:COMBO? image_width:INT? image_height:INT?",
        "FLASHWORLD_TRAJECTORY LOAD3D_CAMERA LOAD3D_CAMERA",
    ),
    "FlashWorld_WanCamera": (
        "trajectory:FLASHWORLD_TRAJECTORY",
        "WAN_CAMERA_EMBEDDING",
    ),
    "FlashWorld_SaveCameraPath": (
        "trajectory:FLASHWORLD_TRAJECTORY filename_prefix:STRING format:COMBO",
        "FLASHWORLD_TRAJECTORY",
    ),
    "FlashWorld_Generate": (
        "model:FLASHWORLD_MODEL trajectory:FLASHWORLD_TRAJECTORY prompt:STRING seed:INT steps:INT image_index:INT "
        "size_from:COMBO image:IMAGE? conditioning:CONDITIONING? mask:MASK?",
        "SPLAT IMAGE LOAD3D_CAMERA",
    ),
    "FlashWorld_ImageToObject": (
        "model:FLASHWORLD_MODEL image:IMAGE seed:INT structure_steps:INT detail_steps:INT guidance:FLOAT mask:MASK? "
        "mask_is:COMBO?",
        "SPLAT IMAGE LOAD3D_CAMERA FIELD",
    ),
    "FlashWorld_FieldToMesh": ("field:FIELD resolution:INT threshold:FLOAT", "MESH FILE_3D_GLB"),
    "FlashWorld_FieldToSplat": ("field:FIELD resolution:INT min_opacity:FLOAT", "SPLAT"),
    "FlashWorld_PlaceObject": (
        "scene:SPLAT object:SPLAT where:COMBO pixel_x:FLOAT pixel_y:FLOAT view:INT position_x:FLOAT position_y:FLOAT "
        "position_z:FLOAT scale:FLOAT turn:FLOAT tilt:FLOAT roll:FLOAT face_viewer:BOOLEAN anchor:COMBO "
        "trajectory:FLASHWORLD_TRAJECTORY?",
        "SPLAT IMAGE",
    ),
    "FlashWorld_RenderViews": (
        "splat:SPLAT width:INT height:INT frames:INT background:STRING hole_threshold:FLOAT sh_degree:INT "
        "softness:COMBO "
        "trajectory:FLASHWORLD_TRAJECTORY? camera:LOAD3D_CAMERA?",
        "IMAGE MASK IMAGE IMAGE MASK",
    ),
    "FlashWorld_ExportScene": (
        "splat:SPLAT filename_prefix:STRING format:COMBO camera:LOAD3D_CAMERA? sh_degree:COMBO? quality:COMBO? "
        "axes:COMBO? max_gaussians:INT? trajectory:FLASHWORLD_TRAJECTORY?",
        "FILE_3D_SPLAT_ANY",
    ),
    "FlashWorld_LoadScene": ("file:COMBO axes:COMBO? max_gaussians:INT?", "SPLAT LOAD3D_CAMERA"),
    "FlashWorld_CleanScene": (
        "splat:SPLAT min_opacity:FLOAT max_size:FLOAT crop:COMBO center_x:FLOAT center_y:FLOAT center_z:FLOAT "
        "size_x:FLOAT size_y:FLOAT size_z:FLOAT surroundings:FLOAT max_gaussians:INT "
        "max_distance:FLOAT? trajectory:FLASHWORLD_TRAJECTORY?",
        "SPLAT",
    ),
    "FlashWorld_PreviewScene": (
        "splat:SPLAT view:STRING width:INT height:INT budget:INT trajectory:FLASHWORLD_TRAJECTORY? "
        "camera:LOAD3D_CAMERA?",
        "LOAD3D_CAMERA IMAGE",
    ),
}
OUTPUT_NODES = {"FlashWorld_SaveCameraPath", "FlashWorld_ExportScene", "FlashWorld_PreviewScene"}


def test_exactly_the_promised_nodes(object_info: dict[str, Any]) -> None:
    assert {id for id in object_info if id.lower().startswith("flashworld")} == set(CONTRACT)


LISTS = (("FlashWorld_LoadCameraPath", "file"), ("FlashWorld_LoadScene", "file"))


@pytest.mark.parametrize("node", CONTRACT)
def test_inputs_and_outputs(object_info: dict[str, Any], node: str) -> None:
    info, (inputs, outputs) = object_info[node], CONTRACT[node]
    wanted = inputs.split()
    found = [f"{name}:{kind}{'' if required else '?'}" for name, (kind, _, required) in inputs_of(info).items()]
    if node == "FlashWorld_CameraPath":  # one input that grows, or a row of sockets where the host cannot grow one
        cameras = [f for f in found if f not in wanted]
        assert cameras == ["cameras:COMFY_AUTOGROW_V3?"] or cameras == [f"camera{i}:LOAD3D_CAMERA?" for i in range(8)]
        found = [f for f in found if f in wanted]
    assert found == wanted, "saved workflows keep widget values by position: add widgets after the others, here too"
    assert info["output"] == outputs.split()
    assert info["output_node"] is (node in OUTPUT_NODES)


@pytest.mark.parametrize("node", CONTRACT)
def test_every_input_explains_itself(object_info: dict[str, Any], node: str) -> None:
    info = object_info[node]
    assert info["display_name"] and info["category"].startswith("FlashWorld") and len(info["description"]) > 20
    assert info["python_module"].startswith("custom_nodes.")
    for name, (kind, options, _) in inputs_of(info).items():
        assert len(options.get("tooltip") or "") > 10, name
        if kind in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"], name
        if kind == "COMBO" and (node, name) not in LISTS:  # lists the input folder: empty
            assert options["options"], name
            assert options.get("default", options["options"][0]) in options["options"], name


def test_defaults_run_anywhere(object_info: dict[str, Any]) -> None:
    inputs = inputs_of(object_info["FlashWorld_LoadModel"])
    assert inputs["model"][1]["options"][0] == "flashworld-tiny (embedded)"
    assert inputs_of(object_info["FlashWorld_Generate"])["seed"][1]["control_after_generate"]
