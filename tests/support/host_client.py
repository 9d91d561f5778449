"""A small client of ComfyUI's HTTP and websocket interface."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Graph = dict[str, dict[str, Any]]
FINISHED = {"execution_success", "execution_error", "execution_interrupted"}


class Rejected(Exception):
    """The host refused a prompt before running it; ``answer`` is its JSON ({} if it sent none), ``status`` its code."""

    def __init__(self, status: int, answer: dict[str, Any]):
        super().__init__(f"HTTP {status}: {json.dumps(answer)[:2000]}")
        self.status, self.answer = status, answer


@dataclass
class Run:
    """What came of one prompt."""

    prompt_id: str
    node_errors: dict[str, Any] = field(default_factory=dict)  # of branches the host refused while it ran others
    ending: str = ""  # the name of the last event: execution_success, execution_error or execution_interrupted
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # JSON events of this prompt, in order
    previews: int = 0  # binary messages (preview pictures, progress texts)
    outputs: dict[str, dict[str, list[Any]]] = field(default_factory=dict)  # of the history, by node id
    status: dict[str, Any] = field(default_factory=dict)  # of the history

    def of(self, name: str) -> list[dict[str, Any]]:
        """The data of every event called ``name``."""
        return [data for event, data in self.events if event == name]

    @property
    def executed(self) -> set[str]:
        """Ids of the nodes that ran (not those taken from the cache)."""
        return {data["node"] for data in self.of("executing") if data.get("node")}

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes whose results were taken from the cache."""
        return {node for data in self.of("execution_cached") for node in data["nodes"]}

    @property
    def error(self) -> dict[str, Any]:
        """Of the execution_error event: node_id, node_type, exception_message, exception_type, ..."""
        return (self.of("execution_error") or [{}])[0]


class HostClient:
    """Talks to the host at ``url``."""

    def __init__(self, url: str):
        self.url = url

    def request(self, path: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
        """GET, or POST if there are ``data``.

        Raises:
            Rejected: the host answered with an error.
        """
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": kind} if data else {})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                raise Rejected(error.code, json.loads(text)) from None
            except json.JSONDecodeError:
                raise Rejected(error.code, {"text": text.decode(errors="replace")}) from None

    def get(self, path: str) -> Any:
        """The JSON at ``path``."""
        return json.loads(self.request(path))

    def post(self, path: str, value: Any) -> Any:
        """Send JSON; the JSON of the answer, None if it is empty."""
        answer = self.request(path, json.dumps(value).encode())
        return json.loads(answer) if answer else None

    def object_info(self) -> dict[str, Any]:
        """Every node the host knows, by id."""
        return self.get("/object_info")

    def view(self, file: dict[str, str]) -> bytes:
        """The content of a file that a node's output names ({filename, subfolder, type})."""
        keys = {key: file[key] for key in ("filename", "subfolder", "type")}
        return self.request("/view?" + urllib.parse.urlencode(keys))

    def upload(self, name: str, content: bytes) -> str:
        """Put a file into the host's input folder; the name to use in a workflow."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        rest = f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--{boundary}--\r\n'
        body = (head + "Content-Type: application/octet-stream\r\n\r\n").encode() + content + rest.encode()
        answer = json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))
        return answer["name"] if not answer.get("subfolder") else f"{answer['subfolder']}/{answer['name']}"

    def interrupt(self) -> None:
        """Cancel what is running."""
        self.request("/interrupt", b"{}")

    def free(self) -> None:
        """Ask the host to unload its models and forget cached results."""
        self.request("/free", json.dumps({"unload_models": True, "free_memory": True}).encode())

    def run(
        self,
        graph: Graph,
        timeout: float = 300.0,
        on_event: Callable[[str, dict[str, Any]], None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Run:
        """Queue ``graph`` (API format) and wait for its end.

        Args:
            graph: nodes by id.
            timeout: seconds until TimeoutError; the prompt is interrupted then.
            on_event: called with the name and data of every JSON event of the prompt, while it runs.
            extra: the prompt's extra_data.

        Raises:
            Rejected: the host did not accept the prompt.
        """
        client = uuid.uuid4().hex
        socket_url = self.url.replace("http", "ws", 1) + f"/ws?clientId={client}"
        with connect(socket_url, max_size=None, open_timeout=60, close_timeout=1) as socket:
            body = {"prompt": graph, "client_id": client, "extra_data": extra or {}}
            answer = self.post("/prompt", body)
            run = Run(answer["prompt_id"], answer["node_errors"])
            self._listen(socket, run, time.monotonic() + timeout, on_event)
        record = self._history(run.prompt_id)
        run.outputs, run.status = record["outputs"], record["status"]
        return run

    def _listen(self, socket: Any, run: Run, end: float, on_event: Callable | None) -> None:
        while not run.ending:
            try:
                message = socket.recv(timeout=max(0.0, end - time.monotonic()))
            except TimeoutError:
                self.interrupt()
                raise
            except ConnectionClosed:
                raise RuntimeError("the host closed the connection: it probably crashed, see its log") from None
            if isinstance(message, bytes):
                run.previews += 1
                continue
            event = json.loads(message)
            name, data = event["type"], event.get("data", {})
            if data.get("prompt_id", run.prompt_id) != run.prompt_id or name in ("status", "feature_flags"):
                continue
            run.events.append((name, data))
            if name in FINISHED:
                run.ending = name
            if on_event:
                on_event(name, data)

    def _history(self, prompt_id: str) -> dict[str, Any]:
        for _ in range(100):  # the record is written a moment after the last event
            history = self.get("/history/" + prompt_id)
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.05)
        raise RuntimeError(f"no history of prompt {prompt_id}")


def output_files(run: Run, node: str, base: Path) -> list[Path]:
    """Where on disk the files are that ``node`` reported, whatever it called them."""
    listed = [item for items in run.outputs.get(node, {}).values() for item in items]
    files = [item for item in listed if isinstance(item, dict) and "filename" in item]
    return [base / file["type"] / file["subfolder"] / file["filename"] for file in files]
