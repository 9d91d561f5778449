"""What the loader shows before a model runs, as the browser asks a real ComfyUI for it."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from host_client import HostClient

pytestmark = pytest.mark.host
KEYS = {"license", "summary", "plan", "error"}


def ask(client: HostClient, **query: str) -> dict:
    return client.get("/flashworld/model_info?" + urlencode(query))


def test_license_and_memory_plan_of_the_embedded_model(client: HostClient) -> None:
    info = ask(client, model="flashworld-tiny (embedded)", dtype="fp32")
    assert set(info) == KEYS and info["error"] == ""
    assert info["license"].startswith("Apache-2.0") and "8 views of 96x64" in info["summary"]
    assert "float32" in info["plan"][0] and any(line.startswith("- transformer: ") for line in info["plan"])
    assert client.get("/api/flashworld/model_info") == ask(client, model="")  # as the frontend asks


@pytest.mark.parametrize("model", ["", "none.ckpt", "../../etc/passwd", "/etc/passwd", "..\\x.ckpt", "a\0b", "nul"])
def test_names_that_are_not_on_the_list_get_no_look_at_the_disk(client: HostClient, model: str) -> None:
    info = ask(client, model=model)
    assert "no such model in the list" in info["error"] and info["plan"] == [] and "passwd" not in info["error"]
