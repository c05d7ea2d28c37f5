"""Models through the REST API of a server on this machine: listed, downloaded and deleted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.local.test_serve import serving

ROUTE = "/api/v1/models"
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(3_000_000), "merged/config.json": b"{}"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def api(workspace: Path) -> Iterator[httpx.Client]:
    with serving(workspace, "--local") as client:
        yield client


@pytest.fixture
def model(workspace: Path) -> Path:
    """A model with a checkpoint."""
    folder = workspace / "models/Größe 1"
    for name, content in (FILES | {"checkpoints/checkpoint-1/optimizer.pt": b"x"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_model_is_listed_downloaded_checked_and_deleted(api: httpx.Client, model: Path, tmp_path: Path) -> None:
    [listed] = api.get(ROUTE).json()["items"]
    assert (listed["name"], listed["kinds"]) == (model.name, ["adapter", "merged"])
    with api.stream("GET", f"{ROUTE}/{model.name}/download") as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe%201.tar"
        (tmp_path / "model.tar").write_bytes(answer.read())
    subprocess.run(["tar", "xf", "model.tar"], cwd=tmp_path, check=True)
    unpacked = tmp_path / model.name
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=unpacked, check=True)
    got = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert got == {*FILES, "SHA256SUMS"}
    assert api.delete(f"{ROUTE}/{model.name}").status_code == 204
    assert api.get(ROUTE).json() == {"items": []} and not model.exists()


def test_a_download_that_breaks_off_is_cut_off_and_is_one_line_of_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "models/large/adapter_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    os.truncate(weights, 500_000_000)
    with serving(tmp_path, "--local") as api, api.stream("GET", f"{ROUTE}/large/download") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        os.truncate(weights, 0)
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    said = capfd.readouterr().err
    assert "a download broke off: adapter_model.safetensors changed while it was sent" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["..", "..%2F..%2Fetc", "a%2Fb", ".hidden", "a%5Cb", "a%00b", "x" * 256])
def test_no_name_leaves_the_models_folder(api: httpx.Client, model: Path, name: str) -> None:
    for answer in (
        api.build_request("GET", f"{ROUTE}/{name}/download"),
        api.build_request("DELETE", f"{ROUTE}/{name}"),
    ):
        assert api.send(answer).status_code in (404, 405, 422)
    assert model.exists()


def test_a_model_that_is_not_there_is_not_found(api: httpx.Client) -> None:
    for answer in (api.get(f"{ROUTE}/nowhere/download"), api.delete(f"{ROUTE}/nowhere")):
        assert (answer.status_code, answer.json()["detail"]) == (404, "there is no ./models/nowhere")


def test_a_link_is_neither_read_nor_deleted(api: httpx.Client, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    link = workspace / "models/link"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path)
    for answer in (api.get(f"{ROUTE}/link/download"), api.delete(f"{ROUTE}/link")):
        assert answer.status_code == 422 and "a symbolic link leads out of ./models" in answer.json()["detail"]
    link.unlink()
    assert (tmp_path / "secret").exists()
