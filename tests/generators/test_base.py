import json
import sys
import types

import pytest
import torch
from safetensors.torch import save_file

from flashworld_core import generators
from flashworld_core.checkpoints.manifest import Manifest
from flashworld_core.errors import FlashWorldError
from flashworld_core.generators.base import GeneratorInfo, ModelFile


@pytest.fixture
def other_generator(monkeypatch):
    """A generator called "other" whose models answer with what they were loaded with."""
    module = types.ModuleType("other_generator")
    module.open_model = lambda path: ModelFile(
        GeneratorInfo("other", path.name), lambda **options: (path, options), lambda **_: None
    )
    monkeypatch.setitem(sys.modules, "other_generator", module)
    monkeypatch.setattr(generators, "GENERATORS", generators.GENERATORS | {"other": "other_generator:open_model"})


def test_a_folder_is_loaded_by_the_generator_its_config_names(tmp_path, other_generator):
    (tmp_path / "config.json").write_text(json.dumps({"generator": "other"}))
    path, options = generators.load_model(tmp_path, device="meta", vae="x", text_encoder=None)
    assert path == tmp_path
    assert options == {"dtype": None, "device": "meta", "progress": None, "parts": {"vae": "x"}}
    assert generators.load_model(tmp_path / "config.json")[0] == tmp_path / "config.json"


def test_a_file_is_loaded_by_the_generator_its_metadata_names(tmp_path, other_generator):
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors", Manifest("other", {}).metadata())
    assert generators.load_model(tmp_path / "a.safetensors")[0] == tmp_path / "a.safetensors"


def test_a_file_of_no_generator_says_what_it_is(tmp_path):
    save_file({"x.lora_A": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(FlashWorldError, match="looks like a LoRA"):
        generators.open_model(tmp_path / "a.safetensors")


def test_embedded_names_need_no_path(tmp_path, monkeypatch, other_generator):
    (tmp_path / "config.json").write_text(json.dumps({"generator": "other"}))
    monkeypatch.setattr(generators, "EMBEDDED", {"tiny": tmp_path})
    assert generators.load_model("tiny")[0] == tmp_path
    monkeypatch.setattr(generators, "EMBEDDED", {"tiny": tmp_path / "gone"})
    with pytest.raises(FlashWorldError, match="missing from this installation"):
        generators.load_model("tiny")


def test_what_is_not_there_or_unknown_is_said(tmp_path):
    with pytest.raises(
        FlashWorldError, match=r"no model 'nothing/here': give an embedded name .tiny, trellis-tiny. or"
    ):
        generators.load_model("nothing/here")
    (tmp_path / "config.json").write_text(json.dumps({"generator": "somebody-elses"}))
    with pytest.raises(FlashWorldError, match="'somebody-elses'; this version knows flashworld"):
        generators.load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FlashWorldError, match="config.json is not JSON"):
        generators.load_model(tmp_path)


def test_the_published_model_is_planned_without_a_file():
    opened = generators.open_model("official")
    assert opened.info.parameters == 0 and "research" in opened.info.license
    assert opened.memory_plan(dtype=torch.bfloat16, device_type="cuda").peak() > 10e9
    with pytest.raises(FlashWorldError, match="do not come with this package: load FlashWorld's model.ckpt"):
        opened.load()
