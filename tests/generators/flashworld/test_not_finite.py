"""A model whose numbers run away: the command ends with the stage's name, and writes nothing."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from flashworld_core.cli import main
from flashworld_core.generators import model_path

# Decoder, encoder and renderer are in `test_sampler`.
BROKEN = {
    "transformer": ("model.safetensors", "transformer.proj_out.bias", "The transformer gave numbers"),
    "text": ("text_encoder/model.safetensors", "encoder.final_layer_norm.weight", "gave values that are not finite"),
}


@pytest.mark.parametrize("stage", BROKEN)
def test_nothing_is_written(tmp_path, capsys, stage):
    folder, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(model_path("tiny"), folder)
    file, name, message = BROKEN[stage]
    tensors = load_file(folder / file)
    tensors[name] = tensors[name].clone()
    tensors[name][0] = torch.nan
    save_file(tensors, folder / file)
    arguments = ["--prompt", f"a cube {stage}", "--views", "3", "--steps", "2", "--size", "96x64", "--no-video"]
    code = main(["generate", "--model", str(folder), "--out", str(out), "--device", "cpu", *arguments])
    assert code != 0
    said = capsys.readouterr().err
    assert message in said and "not finite" in said and "Traceback" not in said
    assert not [p for p in out.rglob("*") if p.is_file()]
