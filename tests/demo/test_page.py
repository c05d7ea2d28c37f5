"""The demo's web page is that of its own server."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from demo import page
from demo.steps import DemoError

KUBECONFIG = {
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "users": [{"name": "none", "user": {}}],
    "current-context": "none",
}


def test_another_server_on_the_port_is_not_taken_for_the_demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(KUBECONFIG))
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(page, "_free_port", lambda: other.getsockname()[1])
        with pytest.raises(DemoError, match="did not start"):
            page.serve(kubeconfig, "vision")
        assert page._running(tmp_path) is None
    assert "cannot listen" in (tmp_path / "serve.log").read_text()
