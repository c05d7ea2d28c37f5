"""Whoever has no right in the cluster costs a server nothing: no file of theirs is read."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from model_garden.api.access import Access
from model_garden.api.app import create_app
from model_garden.api.limits import Gate
from model_garden.api.protection import Addresses
from model_garden.openai_api.app import add_openai_api
from model_garden.web.app import add_pages
from tests.api.local_server import running

KUBECONFIG = """
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: nobody, user: {}}]
"""
FORM = "multipart/form-data; boundary=b"


@pytest.mark.parametrize("path", ["/v1/files", "/training/new/upload", "/api/v1/datasets?folder=x"])
def test_no_file_is_read_before_the_cluster_knows_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "config").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield b"--b--\r\n"

    async def answer() -> httpx.Response:
        async with await Access.open(None, loopback=False) as access:
            app = add_openai_api(add_pages(create_app(access, Addresses(loopback=True))))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
                headers = {"Authorization": "Bearer invented", "Content-Type": FORM}
                return await client.post(path, content=body(), headers=headers)

    assert asyncio.run(answer()).status_code == 503  # there is no API server to ask
    assert not read


def test_files_of_the_openai_api_are_bounded_as_those_of_the_rest_api(tmp_path: Path) -> None:
    with running(tmp_path, work=Gate("transfers", per_caller=0, in_all=1, retry_seconds=1)) as address:
        for answer in (
            httpx.post(f"{address}/v1/files", content=b"--b--\r\n", headers={"Content-Type": FORM}),
            httpx.get(f"{address}/v1/files/file-x/content"),
            httpx.post(f"{address}/api/v1/datasets?folder=x", content=b"--b--\r\n", headers={"Content-Type": FORM}),
        ):
            assert answer.status_code == 429, answer.text
