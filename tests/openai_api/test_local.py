"""Files and jobs through the ``openai`` package against ``model-garden serve`` on one machine, with its own trainer."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.local.test_serve import serving
from tests.tiny import tiny_model

__all__ = ["tiny_model"]

ON_CPU = {"resources": {"limits": {"nvidia.com/gpu": 0}}, "hyperparameters": {"max_steps": 3}}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[openai.OpenAI]:
    """A client of a server without a cluster; any key will do."""
    with (
        serving(tmp_path, "--local") as http,
        openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="any", max_retries=0) as found,
    ):
        yield found


def row(answer: str = "4", **turn: Any) -> dict[str, Any]:
    """A row as OpenAI's guides have it."""
    return {
        "messages": [
            {"role": "system", "content": "You answer with a number."},
            {"role": "user", "content": "What is 2 + 2?"},
            {"role": "assistant", "content": answer} | turn,
        ]
    }


def picture() -> str:
    from PIL import Image

    made = io.BytesIO()
    Image.new("RGB", (56, 56), "red").save(made, "PNG")
    return "data:image/png;base64," + base64.b64encode(made.getvalue()).decode()


def row_with_image() -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": picture(), "detail": "low"}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Which color?"}, image]},
        {"role": "assistant", "content": "red"},
    ]
    return {"messages": turns}


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def upload(client: openai.OpenAI, *rows: dict[str, Any], name: str = "train.jsonl") -> openai.types.FileObject:
    return client.files.create(file=(name, lines(*rows)), purpose="fine-tune")


def test_a_file_is_kept_shown_and_deleted(client: openai.OpenAI, tmp_path: Path) -> None:
    content = lines(row(), row("four"))
    file = client.files.create(file=("train.jsonl", content), purpose="fine-tune")
    assert (file.filename, file.bytes, file.purpose, file.status) == (
        "train.jsonl",
        len(content),
        "fine-tune",
        "processed",
    )
    assert (tmp_path / "data" / file.id / "train.jsonl").read_bytes() == content
    assert client.files.create(file=("train.jsonl", content), purpose="fine-tune").id == file.id
    other = upload(client, row("four"))
    assert {found.id for found in client.files.list(limit=1)} == {file.id, other.id}  # page by page
    assert client.files.retrieve(file.id).id == file.id
    assert client.files.content(file.id).read() == content
    assert client.files.delete(file.id).deleted is True
    with pytest.raises(openai.NotFoundError, match=file.id):
        client.files.retrieve(file.id)
    assert [found.id for found in client.files.list()] == [other.id]


def test_rows_with_tools_are_kept(client: openai.OpenAI) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
    tools = {"tools": [{"type": "function", "function": {"name": "add"}}]}
    assert upload(client, row(tool_calls=[call]) | tools).status == "processed"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"messages": [{"role": "user", "content": "2 + 2?"}]}, "no assistant turn"),
        (row(weight=0.5), "weight"),
        (row(weight=0), "every answer of the row is marked as not trained"),
        (row(tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}}]), "arguments"),
    ],
)
def test_a_broken_row_is_named_and_its_file_not_kept(client: openai.OpenAI, broken: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as wrong:
        upload(client, row(), broken)
    assert "row 2" in str(wrong.value)
    assert client.files.list().data == []


def test_what_is_not_available_is_said(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose: 'batch' is not available; use fine-tune"):
        client.files.create(file=("x.jsonl", lines(row())), purpose="batch")
    for files, words in (([], "has no file"), ([("file", b"{}")] * 2, "is given twice")):
        form = [*files, ("purpose", (None, "fine-tune"))]
        answer = httpx.post(f"{client.base_url}files", files=form)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]
    with pytest.raises(openai.BadRequestError, match=r"expires_after\[anchor\]: is not available"):
        client.files.create(
            file=("x.jsonl", lines(row())),
            purpose="fine-tune",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
    with pytest.raises(openai.BadRequestError, match="there is no file 'file-0123'") as wrong:
        client.fine_tuning.jobs.create(model="./models/tiny", training_file="file-0123")
    assert wrong.value.param == "training_file"
    with pytest.raises(openai.BadRequestError, match="is a model of OpenAI") as wrong:
        client.fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=upload(client, row()).id)
    assert wrong.value.param == "model"


@pytest.mark.train
def test_a_script_for_openai_trains_a_model(
    client: openai.OpenAI, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny_model("qwen2_5_vl"))
    training = upload(client, *[row_with_image() for _ in range(6)], name="train.jsonl")
    validation = upload(client, row_with_image(), name="valid.jsonl")
    job = client.fine_tuning.jobs.create(
        model="./models/tiny",
        training_file=training.id,
        validation_file=validation.id,
        suffix="colors",
        hyperparameters={"n_epochs": 1, "batch_size": 2},
        extra_body={"model_garden": ON_CPU},
    )
    assert (job.training_file, job.validation_file) == (training.id, validation.id)
    events: list[str] = []
    deadline = time.monotonic() + 240
    while job.status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, job
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
        for event in reversed(list(client.fine_tuning.jobs.list_events(job.id))):
            if event.id not in [seen.partition(" ")[0] for seen in events]:
                events.append(f"{event.id} {event.message}")
    assert job.status == "succeeded", job.error
    told = [event.partition(" ")[2] for event in events]
    assert told[0] == f"Created fine-tuning job: {job.id}"
    assert told[-2:] == [f"New fine-tuned model created: {job.fine_tuned_model}", "The job has successfully completed"]
    assert any("Step 3/3: training loss=" in message for message in told)
    assert job.fine_tuned_model
    assert (tmp_path / job.fine_tuned_model / "adapter_model.safetensors").exists()
    assert client.models.retrieve(job.fine_tuned_model).id == job.fine_tuned_model
    [result] = job.result_files
    table = client.files.content(result).text.splitlines()
    assert table[0] == "step,train_loss,valid_loss,learning_rate"
    assert [line.split(",")[0] for line in table[1:]] == ["1", "2", "3"]
