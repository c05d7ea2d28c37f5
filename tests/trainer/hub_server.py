"""A local server with the few addresses of the Hub that an upload asks for, and what was uploaded to it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WRITER, READER, STRANGER = "hf_of_a_writer", "hf_of_a_reader", "hf_of_nobody"
_ACCOUNTS = {
    WRITER: {"name": "me", "orgs": [{"name": "org"}], "auth": {"accessToken": {"role": "write"}}},
    READER: {"name": "me", "orgs": [], "auth": {"accessToken": {"role": "read", "displayName": "laptop"}}},
}


class Hub:
    """``files`` holds what was committed; ``refuse`` makes commits fail."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.repositories: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.refuse = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self, body: Any, status: int = 200, **headers: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    def _content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in _ACCOUNTS:
            self._answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/whoami-v2":
            self._answer(_ACCOUNTS[token])
        elif self.path.endswith("/auth-check/write"):
            name = self.path.removeprefix("/api/models/").removesuffix("/auth-check/write")
            if name in self.hub.repositories:
                self._answer({})
            else:
                self._answer({}, 404, X_Error_Code="RepoNotFound")
        else:
            self._answer({}, 404)

    def do_POST(self) -> None:
        path, content = self.path, self._content()
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
            self.hub.repositories[name] = asked
            self._answer({"url": f"{self.hub.endpoint}/{name}", "id": name})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            names = [file["path"] for file in json.loads(content)["files"]]
            modes = ["lfs" if name.endswith(".safetensors") else "regular" for name in names]
            files = [
                {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": None}
                for name, mode in zip(names, modes, strict=True)
            ]
            self._answer({"files": files})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.hub.endpoint}/objects/{o['oid']}", "header": {}}}}
                for o in json.loads(content)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in path and self.hub.refuse:
            self._answer({"error": "Storage quota exceeded"}, 403, X_Error_Message="Storage quota exceeded")
        elif "/commit/" in path:
            self._commit([json.loads(line) for line in content.splitlines()])
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            page = f"{self.hub.endpoint}/{name}/commit/{'1' * 40}"
            self._answer({"commitUrl": page, "commitOid": "1" * 40, "success": True})
        else:
            self._answer({}, 404)

    def do_PUT(self) -> None:
        content = self._content()
        self.hub.objects[hashlib.sha256(content).hexdigest()] = content
        self._answer({})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[value["path"]] = self.hub.objects[value["oid"]]


@contextmanager
def running() -> Iterator[Hub]:
    """A Hub while it runs."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub = handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
