"""The pages as people see them: ``model-garden serve`` in front of a real API server, in a real Chromium."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.api.conftest import serving
from tests.cluster import TestCluster
from tests.controller.harness import OperatorHarness

CHROMIUM = shutil.which("chromium")
CONFIG = {
    "model_type": "qwen2_5_vl",
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "patch_size": 14,
        "spatial_merge_size": 2,
    },
}
SIZES = {
    "siblings": [
        {"rfilename": "model.safetensors", "size": 7 * 1024**3},
        {"rfilename": "pytorch_model.bin", "size": 7 * 1024**3},
        {"rfilename": "config.json", "size": 1024},
    ]
}
PATIENCE = 60_000
"""Milliseconds that a step or a condition of a page may take on a busy two-core machine."""


@pytest.fixture(scope="session")
def harness(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorHarness]:
    """A namespace whose operator runs the scripted trainer."""
    cluster.serve_training_jobs()
    harness = OperatorHarness(cluster, "pages", tmp_path_factory.mktemp("pages"))
    harness.start_operator()
    yield harness
    harness.stop_operator()


@pytest.fixture(scope="session")
def kubeconfig(harness: OperatorHarness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The administrator's kubeconfig with the tests' namespace in its context."""
    config = json.loads(harness.cluster.kubectl("config", "view", "--raw", "-o", "json"))
    config["contexts"][0]["context"]["namespace"] = harness.namespace
    path = tmp_path_factory.mktemp("serve") / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture(scope="session")
def hub() -> Iterator[str]:
    """A Hub whose every model has the shape of Qwen2.5-VL-3B; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(SIZES if self.path.startswith("/api/models/") else CONFIG).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def address(kubeconfig: Path, hub: str) -> Iterator[str]:
    """A server for this machine alone."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # for this server alone
            patch.setenv("HF_ENDPOINT", hub)
            found = stack.enter_context(serving(kubeconfig))
        yield found


@pytest.fixture(scope="session")
def public(kubeconfig: Path) -> Iterator[str]:
    """A server that other machines can reach."""
    with serving(kubeconfig, "--host", "0.0.0.0") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. While it is open, Playwright holds the event loop that asyncio tests need."""
    assert CHROMIUM, "the tests of the web pages need Chromium; install it: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root has no sandbox
        browser.on("context", lambda context: context.set_default_timeout(PATIENCE))
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, address: str, harmless: str) -> Iterator[Page]:
    """A page of a fresh profile.

    :param harmless: a pattern of the console's errors that are none.
    :raises AssertionError: at the end, for an error of the page's scripts or of its security policy.
    """
    errors: list[str] = []
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert [error for error in errors if not re.search(harmless, error)] == []


# htmx logs a request that a newer one replaces as an error; one that fails logs "htmx:sendError" beside them.
REPLACED = "^htmx:(afterRequest|sendAbort),"

BUSY = ":is(.htmx-request, .htmx-swapping, .htmx-settling)"
"""The parts of a page that are asked for or drawn at the moment."""


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with new_page(browser, address, f"the server responded with a status of|{REPLACED}") as page:
        yield page


def form_token(page: str) -> str:
    """The CSRF token that the forms of a page carry."""
    found = re.search(r'name="csrf_token" value="(\w+)"', page)
    assert found
    return found[1]
