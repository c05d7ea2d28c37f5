"""Data sets through the REST API of a server on this machine: in, looked at, out of the way."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_garden.datasets.samples import create_vision_samples
from tests.api.conformance import check_answers
from tests.local.test_serve import serving

ROUTE = "/api/v1/datasets"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "data").mkdir()
    return folder


@pytest.fixture(scope="module")
def server(workspace: Path) -> Iterator[httpx.Client]:
    with serving(workspace, "--local") as client:
        yield client


@pytest.fixture
def api(server: httpx.Client, workspace: Path) -> Iterator[httpx.Client]:
    """A client of the server, and no data set afterwards."""
    yield server
    for one in server.get(ROUTE).json()["items"]:
        assert server.delete(ROUTE, params={"path": one["path"]}).status_code == 204
    assert not list((workspace / "data").iterdir())


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Three rows with images."""
    create_vision_samples(tmp_path / "shapes.jsonl", 3)
    return tmp_path


def files_of(folder: Path) -> list[tuple[str, tuple[str, bytes]]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [("files", (path.relative_to(folder).as_posix(), path.read_bytes())) for path in paths]


def post(api: httpx.Client, files: Any, folder: str = "shapes", **query: Any) -> httpx.Response:
    return api.post(ROUTE, params={"folder": folder, **query}, files=files)


def test_a_data_set_goes_in_and_is_listed_previewed_and_deleted(api: httpx.Client, sample: Path) -> None:
    stored = post(api, files_of(sample))
    assert stored.status_code == 201, stored.text
    report = stored.json()
    assert (report["path"], report["added"], report["skipped"]) == ("./data/shapes/shapes.jsonl", 4, 0)
    assert report["checks"][0]["rows"] == 3
    [listed] = api.get(ROUTE).json()["items"]
    assert (listed["path"], listed["files"]) == (report["path"], 4)
    preview = api.get(f"{ROUTE}/preview", params={"path": report["path"], "start": 2}).json()
    assert (preview["total"], len(preview["rows"]), preview["rows"][0]["row"]) == (3, 1, 3)
    assert preview["rows"][0]["turns"][0]["parts"][0]["image"].startswith("data:image/jpeg;base64,")
    checked = api.post(f"{ROUTE}/check", json={"path": report["path"]})
    assert checked.json()["ok"] is True and checked.json()["images"] == 3
    again = post(api, files_of(sample)).json()
    assert (again["added"], again["skipped"]) == (0, 4)
    assert api.delete(ROUTE, params={"path": report["path"]}).status_code == 204
    assert api.get(ROUTE).json() == {"items": []}


def test_the_documented_command_uploads_a_folder(api: httpx.Client, sample: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/03-api-specification.md").read_text()
    command = "find . " + page.partition("\nfind . ")[2].partition("```")[0]
    assert "http://localhost:8000" in command
    (sample / "shapes.jsonl").rename(sample / "my best rows.jsonl")
    done = subprocess.run(
        command.replace("http://localhost:8000", str(api.base_url)),
        shell=True,
        cwd=sample,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["added"] == 4, done.stdout


def test_a_broken_row_comes_back_with_its_file_and_row_and_nothing_is_stored(api: httpx.Client, sample: Path) -> None:
    with (sample / "shapes.jsonl").open("a") as file:
        file.write('{"text": "What is it?", "image": "nowhere.png", "response": "A circle."}\n')
    refused = post(api, files_of(sample))
    assert refused.status_code == 422 and refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert problem["reason"] == "BrokenDataset"
    assert problem["detail"].startswith("./data/shapes is not stored: 1 problem; fix the data, or send keep_invalid")
    [error] = problem["errors"]
    assert error["field"] == "./data/shapes/shapes.jsonl row 4" and "nowhere.png" in error["message"]
    assert api.get(ROUTE).json() == {"items": []}
    kept = post(api, files_of(sample), keep_invalid="true")
    assert kept.status_code == 201 and kept.json()["checks"][0]["ok"] is False
    [broken] = api.post(f"{ROUTE}/check", json={"path": kept.json()["path"]}).json()["broken"]
    assert broken["row"] == 4


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../../x.jsonl", "leads out of the folder"),
        ("/etc/x.jsonl", "has an empty part"),
        ("a/../../x.jsonl", "leads out of the folder"),
        ("a\\..\\x.jsonl", "contains"),
        (".ssh/x.jsonl", "is a hidden name"),
        ("x" * 300 + ".jsonl", "is longer than 255 bytes"),
    ],
)
def test_no_file_leaves_the_folder(api: httpx.Client, workspace: Path, path: str, words: str) -> None:
    before = sorted(workspace.parent.rglob("*.jsonl"))
    quoted = path.replace("\\", "\\\\")
    body = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{quoted}"\r\n\r\n{{}}\r\n--b--\r\n'
    refused = api.post(f"{ROUTE}?folder=x", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert refused.status_code == 422, refused.text
    problem = refused.json()
    assert problem["reason"] == "InvalidPath" and words in problem["errors"][0]["message"]
    assert sorted(workspace.parent.rglob("*.jsonl")) == before


@pytest.mark.parametrize("folder", ["..", "../x", "/etc", "a/b", ".hidden", "a\\b", "", "x" * 300, "a%00b"])
def test_no_folder_is_elsewhere(api: httpx.Client, folder: str, sample: Path) -> None:
    refused = post(api, files_of(sample), folder.replace("%00", "\0"))
    assert refused.status_code == 422 and refused.json()["errors"]


@pytest.mark.parametrize("path", ["./data/../models", "/etc/passwd", "./models/x", "./data", "..", "\0"])
def test_no_path_is_elsewhere(api: httpx.Client, path: str) -> None:
    for answer in (
        api.get(f"{ROUTE}/preview", params={"path": path}),
        api.post(f"{ROUTE}/check", json={"path": path}),
    ):
        assert answer.status_code == 422 and answer.json()["reason"] == "InvalidPath", answer.text
    if path != "./models/x":
        assert api.delete(ROUTE, params={"path": path}).status_code == 422


def test_what_is_not_there_is_not_found(api: httpx.Client) -> None:
    answer = api.get(f"{ROUTE}/preview", params={"path": "./data/nowhere.jsonl"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no ./data/nowhere.jsonl")


@pytest.mark.parametrize(
    ("content_type", "body", "status", "words"),
    [
        ("application/json", b"{}", 415, "send multipart/form-data with a boundary"),
        ("multipart/form-data", b"{}", 415, "send multipart/form-data with a boundary"),
        ("multipart/form-data; boundary=b", b"nonsense", 400, "is not multipart/form-data"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422, "has no file"),
        ("multipart/form-data; boundary=b", b"", 400, "ends before its last boundary"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n',
            422,
            "'x' has no file name",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"; filename="x.jsonl"\r\n\r\nhalf',
            400,
            "ends before its last boundary",
        ),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    api: httpx.Client, content_type: str, body: bytes, status: int, words: str
) -> None:
    refused = api.post(f"{ROUTE}?folder=x", content=body, headers={"Content-Type": content_type})
    assert refused.status_code == status, refused.text
    assert words in refused.json()["detail"]


def test_an_announced_body_that_is_too_large_is_refused_at_once(api: httpx.Client) -> None:
    with socket.create_connection((api.base_url.host, api.base_url.port)) as connection:
        connection.sendall(
            f"POST {ROUTE}?folder=x HTTP/1.1\r\nHost: {api.base_url.netloc.decode()}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 999999999999\r\n\r\n".encode()
        )
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 413")


def test_an_upload_that_breaks_off_leaves_nothing(api: httpx.Client, workspace: Path) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.jsonl"\r\n\r\n'
    with socket.create_connection((api.base_url.host, api.base_url.port)) as connection:
        connection.sendall(
            f"POST {ROUTE}?folder=x HTTP/1.1\r\nHost: {api.base_url.netloc.decode()}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999\r\n\r\n".encode()
            + part
            + b"{}\r\n" * 100
        )
        staging = (workspace / "data").glob(".upload-*")
        while not list(staging):  # the server has begun
            staging = (workspace / "data").glob(".upload-*")
    while list((workspace / "data").glob(".upload-*")):
        pass
    assert not (workspace / "data/x").exists()


def test_a_data_set_that_a_job_needs_is_neither_deleted_nor_changed(api: httpx.Client, sample: Path) -> None:
    post(api, files_of(sample))
    job = {"name": "using", "base_model": "a/b", "dataset_path": "./data/shapes/shapes.jsonl", "suspend": True}
    assert api.post("/api/v1/training/jobs", json=job | {"is_vision": True}).status_code == 201
    for path in ("./data/shapes", "./data/shapes/shapes.jsonl"):
        refused = api.delete(ROUTE, params={"path": path})
        assert refused.status_code == 409
        assert refused.json()["detail"] == f"{path} is used by using; wait until it has ended, or cancel it"
    assert api.delete("/api/v1/models/using").status_code == 409
    assert post(api, files_of(sample)).status_code == 201, "the same files change nothing"
    changed = sample / "shapes.jsonl"
    changed.write_text("".join(changed.read_text().splitlines(keepends=True)[:2]))
    refused = post(api, files_of(sample))
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "./data/shapes/shapes.jsonl has other content, and using still reads it; upload to another folder, or wait "
        "until the job has ended",
    )
    assert api.get(f"{ROUTE}/preview", params={"path": "./data/shapes"}).json()["total"] == 3
    api.delete("/api/v1/training/jobs/using")


def test_every_answer_is_one_that_the_document_names(api: httpx.Client, tmp_path: Path) -> None:
    check_answers(api, tmp_path, "--include-path-regex", "^/api/v1/(datasets|models)")


def test_rows_are_uploaded_previewed_and_checked_as_a_job_reads_them(api: httpx.Client, tmp_path: Path) -> None:
    own, prompts = {"q": "2+2?", "best": "4"}, {"prompt": "2+2?", "answer": "4"}
    for name, row, query in (
        ("own", own, {"column_mapping": ["prompt=q", "response=best"]}),
        ("prompts", prompts, {"method": "grpo"}),
    ):
        files = [("files", ("rows.jsonl", json.dumps(row).encode()))]
        assert post(api, files, name).status_code == 422
        stored = post(api, files, name, **query)
        assert stored.status_code == 201, stored.text
        path = stored.json()["path"]
        [shown] = api.get(f"{ROUTE}/preview", params={"path": path, **query}).json()["rows"]
        assert [part["text"] for turn in shown["turns"] for part in turn["parts"]] == ["2+2?", "4"]
        columns = {"prompt": "q", "response": "best"} if name == "own" else {}
        body = {"path": path, "column_mapping": columns, "method": query.get("method")}
        assert api.post(f"{ROUTE}/check", json=body).json()["ok"] is True


def test_columns_that_no_job_may_have_are_refused(api: httpx.Client) -> None:
    refused = api.get(f"{ROUTE}/preview", params={"path": "./data/x", "column_mapping": "prompt=q"})
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert "needs either messages; or prompt and response" in error["message"]
    assert error["field"] == "column_mapping"
