"""One real ComfyUI for all host tests; they skip, saying why, where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from host_client import HostClient
from host_server import HostServer, NoHost, find_host


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostServer]:
    """A running ComfyUI with the pack in it and folders of its own."""
    try:
        server = HostServer(tmp_path_factory.mktemp("comfyui"), find_host())
    except NoHost as reason:
        pytest.skip(str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def client(host: HostServer) -> HostClient:
    """Talks to ``host``."""
    return HostClient(host.url)


@pytest.fixture(scope="session")
def object_info(client: HostClient) -> dict[str, Any]:
    """Every node of ``host`` by id, as the frontend gets it."""
    return client.object_info()
