"""The pages as people see them: ``model-garden serve`` in front of a real API server, in a real Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.api.conftest import serving
from tests.cluster import TestCluster
from tests.controller.harness import OperatorHarness

CHROMIUM = shutil.which("chromium")
PATIENCE = 60_000
"""Milliseconds that a condition of a page may take on a busy two-core machine."""


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
def address(kubeconfig: Path) -> Iterator[str]:
    """A server for this machine alone."""
    with serving(kubeconfig) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    assert CHROMIUM, "the tests of the web pages need Chromium; install it: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root has no sandbox
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page of a fresh profile; an error of its scripts or of its security policy fails the test."""
    errors: list[str] = []
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert [error for error in errors if "the server responded with a status of" not in error] == []
