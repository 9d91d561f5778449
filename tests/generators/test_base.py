import json
import sys
import types

import pytest

from flashworld_core.errors import FlashWorldError
from flashworld_core.generators import base


@pytest.fixture
def other_family(monkeypatch):
    """A family called "other" whose loader returns what it was given."""
    module = types.ModuleType("other_generator")
    module.load = lambda path, **options: (path, options)
    monkeypatch.setitem(sys.modules, "other_generator", module)
    monkeypatch.setattr(base, "_FAMILIES", dict(base._FAMILIES))
    base.register(base.Family("other", "other_generator"))


def test_a_folder_is_loaded_by_the_family_its_config_names(tmp_path, other_family):
    (tmp_path / "config.json").write_text(json.dumps({"generator": "other"}))
    path, options = base.load_model(tmp_path, device="meta", vae="x")
    assert path == tmp_path
    assert options == {"dtype": None, "device": "meta", "vae": "x"}


def test_a_folder_without_a_name_is_flashworlds(tmp_path, other_family):
    base.register(base.Family("flashworld", "other_generator"))
    (tmp_path / "config.json").write_text("{}")
    assert base.load_model(str(tmp_path))[0] == tmp_path
    assert base.load_model(tmp_path / "config.json")[0] == tmp_path / "config.json"


def test_embedded_names_need_no_path(tmp_path, monkeypatch, other_family):
    base.register(base.Family("flashworld", "other_generator"))
    monkeypatch.setattr(base, "EMBEDDED", {"tiny": tmp_path})
    assert base.load_model("tiny")[0] == tmp_path
    monkeypatch.setattr(base, "EMBEDDED", {"tiny": tmp_path / "gone"})
    with pytest.raises(FlashWorldError, match="missing from this installation"):
        base.load_model("tiny")


def test_what_is_not_there_or_unknown_is_said(tmp_path):
    with pytest.raises(FlashWorldError, match=r"no model 'nothing/here': give an embedded name \(tiny\) or a path"):
        base.load_model("nothing/here")
    (tmp_path / "config.json").write_text(json.dumps({"generator": "somebody-elses"}))
    with pytest.raises(FlashWorldError, match="'somebody-elses'; this version knows flashworld"):
        base.load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FlashWorldError, match="config.json is not JSON"):
        base.load_model(tmp_path)
