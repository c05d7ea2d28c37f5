"""No page takes a form that another page sent: every route of the pages that takes one, on a server of this machine."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi.routing import APIRoute

import model_garden.web
from tests.api.conftest import BODY, ROUTE
from tests.api.local_server import running
from tests.web.conftest import form_token

CHANGES = {"change": "suspend"}


def form_routes() -> list[str]:
    modules = [
        importlib.import_module(f"model_garden.web.{one.name}")
        for one in pkgutil.iter_modules(model_garden.web.__path__)
    ]
    routers = [module.router for module in modules if hasattr(module, "router")]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    return sorted({route.path for route in routes if "POST" in (route.methods or ())})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with one job that waits."""
    with running(tmp_path_factory.mktemp("workspace")) as address:
        assert httpx.post(address + ROUTE, json=BODY).status_code == 201
        yield address


def test_there_are_forms() -> None:
    assert {"/login", "/logout", "/training/new", "/training/new/upload", "/training/{name}/delete"} <= set(
        form_routes()
    )


@pytest.mark.parametrize("path", form_routes())
def test_a_form_of_another_page_is_refused(server: str, path: str) -> None:
    url = server + re.sub(r"\{(\w+)\}", lambda found: CHANGES.get(found[1], "receipts"), path)
    fields = {"name": "forged", "base_model": "a/b", "dataset_path": "./data/rows.jsonl", "token": "x"}
    files = {"files": ("forged.jsonl", b"{}\n")} if path.endswith("/upload") else None
    with httpx.Client() as browser:
        right = {"csrf_token": form_token(browser.get(server + "/training/new").text)}
        with httpx.Client() as stranger:
            theirs = {"csrf_token": form_token(stranger.get(server + "/training/new").text)}
        for wrong in ({}, {"csrf_token": ""}, {"csrf_token": "x"}, theirs):
            answer = browser.post(url, data=fields | wrong, files=files)
            assert (answer.status_code, "no valid CSRF token" in answer.text) == (403, True), answer.text
        elsewhere = {"Origin": "https://attacker.test"}
        assert browser.post(url, data=fields | right, files=files, headers=elsewhere).status_code == 403
    names = [job["name"] for job in httpx.get(server + ROUTE).json()["items"]]
    assert names == ["receipts"]
    assert httpx.get(f"{server}{ROUTE}/receipts").json().get("suspend") is not True


def test_the_form_of_the_page_itself_is_taken(server: str) -> None:
    with httpx.Client(base_url=server) as browser:
        right = {"csrf_token": form_token(browser.get("/training/new").text)}
        assert browser.post("/training/receipts/suspend", data=right).status_code == 303
    assert httpx.get(f"{server}{ROUTE}/receipts").json()["suspend"] is True
