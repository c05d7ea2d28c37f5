"""``python -m model_garden.storage``: the same operations through the stdin and stdout of a real process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from model_garden.datasets.samples import create_text_samples, create_vision_samples

COMMAND = (sys.executable, "-m", "model_garden.storage")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A data set, and a model."""
    (tmp_path / "data").mkdir()
    create_vision_samples(tmp_path / "data/shapes.jsonl", 2)
    (tmp_path / "models/mine").mkdir(parents=True)
    (tmp_path / "models/mine/adapter_config.json").write_text("{}")
    (tmp_path / "models/mine/adapter_model.safetensors").write_bytes(b"weights")
    return tmp_path


def ask(workspace: Path, verb: str, line: str = "{}") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, verb], cwd=workspace, input=line.encode() + b"\n", capture_output=True, check=False
    )


def answered(workspace: Path, verb: str, **argument: Any) -> Any:
    done = ask(workspace, verb, json.dumps(argument))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def uploading(workspace: Path, folder: str = "text") -> Iterator[Any]:
    with subprocess.Popen(
        [*COMMAND, "upload"], cwd=workspace, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        say(process, folder=folder)
        yield process


def say(process: Any, content: bytes = b"", **step: Any) -> None:
    process.stdin.write(json.dumps(step).encode() + b"\n" + content)
    process.stdin.flush()


def hear(process: Any) -> Any:
    return json.loads(process.stdout.readline())


def failure(process: Any) -> Any:
    _, errors = process.communicate()
    assert process.returncode == 1
    return json.loads(errors.splitlines()[-1])


def test_each_verb_answers_with_one_line(workspace: Path) -> None:
    assert [one["path"] for one in answered(workspace, "datasets")] == ["./data/shapes.jsonl"]
    assert answered(workspace, "models")[0]["kinds"] == ["adapter"]
    found = answered(workspace, "preview", path="./data/shapes.jsonl", count=1)
    assert found["rows"][0]["turns"][1]["trained"] is True
    assert answered(workspace, "check", path="./data/shapes.jsonl")["ok"] is True
    assert answered(workspace, "remove", path="./data/shapes.jsonl") is None
    assert answered(workspace, "datasets") == []


def test_a_model_is_the_whole_of_stdout(workspace: Path) -> None:
    done = ask(workspace, "archive", '{"path": "./models/mine"}')
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        assert archive.getnames() == [
            "mine/adapter_config.json",
            "mine/adapter_model.safetensors",
            "mine/SHA256SUMS",
        ]


@pytest.mark.parametrize(
    ("verb", "line", "error", "words"),
    [
        ("remove", '{"path": "./data/../x"}', "InvalidPath", "leads out of the folder"),
        ("archive", '{"path": "./models/nowhere"}', "NotFound", "there is no ./models/nowhere"),
        ("upload", '{"folder": "../x"}', "InvalidPath", "leads out of the folder"),
        ("preview", '{"path": "./data/shapes.jsonl", "count": 9999}', "ServiceError", "count"),
        ("preview", "[", "ServiceError", "preview: the request is not understood"),
        ("dance", "{}", "ServiceError", "dance: the request is not understood: there is no such verb"),
    ],
)
def test_a_failure_is_the_last_line_of_stderr(workspace: Path, verb: str, line: str, error: str, words: str) -> None:
    done = ask(workspace, verb, line)
    assert (done.returncode, done.stdout) == (1, b"")
    told = json.loads(done.stderr.splitlines()[-1])
    assert told["error"] == error and words in told["problems"][0]


def test_an_upload_asks_what_is_missing_and_ends_with_a_report(workspace: Path, tmp_path: Path) -> None:
    content = create_text_samples(tmp_path / "text.jsonl", 3).read_bytes()
    file = {"path": "text.jsonl", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    for missing in ([file], []):
        with uploading(workspace) as process:
            assert hear(process) is None
            say(process, missing=[file])
            assert hear(process) == missing
            for _ in missing:
                say(process, content, add={"path": "text.jsonl", "size": len(content)})
            say(process, finish={"keep_invalid": False, "reading": {}})
            report = hear(process)
            assert process.wait() == 0
    assert (report["path"], report["added"], report["skipped"]) == ("./data/text/text.jsonl", 0, 1)
    assert (workspace / "data/text/text.jsonl").read_bytes() == content


def test_a_broken_data_set_comes_back_with_its_report(workspace: Path) -> None:
    with uploading(workspace) as process:
        say(process, b"{}\n", add={"path": "text.jsonl", "size": 3})
        say(process, finish={"keep_invalid": False, "reading": {}})
        told = failure(process)
    assert told["error"] == "BrokenDataset" and "./data/text/text.jsonl row 1" in told["problems"][0]
    assert told["report"]["checks"][0]["ok"] is False
    assert not (workspace / "data/text").exists()


@pytest.mark.parametrize("sent", [b"", b"half of it"])
def test_an_upload_that_breaks_off_leaves_nothing(workspace: Path, sent: bytes) -> None:
    before = sorted((workspace / "data").iterdir())
    with uploading(workspace) as process:
        assert hear(process) is None
        if sent:
            say(process, sent, add={"path": "text.jsonl", "size": 1000})
        told = failure(process)
    assert told["error"] == "UploadRefused"
    assert told["problems"][0].endswith("send it again") or "10 of 1,000 bytes arrived" in told["problems"][0]
    assert sorted((workspace / "data").iterdir()) == before
