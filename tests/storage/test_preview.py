"""Rows as people see them before they submit a job."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from model_garden.contract.options import ColumnMapping
from model_garden.datasets.samples import create_text_samples, create_vision_samples
from model_garden.services.errors import NotFound
from model_garden.storage.folder import FolderStorage
from model_garden.storage.interface import ColumnKey, DatasetQuestion, InvalidPath, Preview, PreviewRequest
from tests.tiny import tiny_model

__all__ = ["tiny_model"]

SHAPES = "./data/shapes/shapes.jsonl"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four rows with images."""
    (tmp_path / "data/shapes").mkdir(parents=True)
    create_vision_samples(tmp_path / SHAPES, 4)
    return tmp_path / "data"


def preview(data: Path, path: str = SHAPES, **question: Any) -> Preview:
    return asyncio.run(FolderStorage(data.parent).preview(PreviewRequest(path=path, **question)))


def check(data: Path, path: str = SHAPES, **question: Any) -> dict[str, Any]:
    return asyncio.run(FolderStorage(data.parent).check(DatasetQuestion(path=path, **question)))


def append(data: Path, row: Any) -> None:
    with (data / "shapes/shapes.jsonl").open("a") as file:
        file.write((row if isinstance(row, str) else json.dumps(row)) + "\n")


def opened(uri: str | None) -> Image.Image:
    assert uri and uri.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_rows_have_turns_pictures_and_what_is_trained_on(data: Path) -> None:
    found = preview(data, start=1, count=2)
    assert (found.kind, found.total, found.images, found.problems) == ("vision", 4, 2, [])
    assert [row.row for row in found.rows] == [2, 3]
    row = found.rows[0]
    assert (row.file, row.format, row.problem) == (SHAPES, '{"text", "image", "response"}', None)
    question, answer = row.turns
    assert [(turn.role, turn.trained) for turn in row.turns] == [("user", False), ("assistant", True)]
    image, text = question.parts
    assert (image.name, image.width, image.height) == ("the image ./data/shapes/shapes_images/0002.png", 224, 224)
    assert opened(image.image).size == (224, 224)
    assert text.text and answer.parts[0].text


def test_reasoning_tools_and_calls_are_parts_of_their_turns(data: Path) -> None:
    call = {"function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    row = {
        "tools": [{"name": "weather"}],
        "messages": [
            {"role": "user", "content": "Warm?"},
            {"role": "assistant", "reasoning": "I ask.", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "21"},
            {"role": "assistant", "content": "Seven.", "weight": 0},
        ],
    }
    (data / "calls.jsonl").write_text(json.dumps(row) + "\n")
    (found,) = preview(data, "./data/calls.jsonl").rows
    assert found.problem is None
    assert [(turn.role, turn.trained, [(part.label, part.text) for part in turn.parts]) for turn in found.turns] == [
        ("tools", False, [("tool", '{"name": "weather"}')]),
        ("user", False, [(None, "Warm?")]),
        ("assistant", True, [("reasoning", "I ask."), ("tool call", 'weather {"city": "Paris"}')]),
        ("tool", False, [(None, "21")]),
        ("assistant", False, [(None, "Seven.")]),
    ]


def test_all_text_may_be_trained_on(data: Path) -> None:
    assert all(turn.trained for row in preview(data, train_on="all").rows for turn in row.turns)


def test_ignored_keys_and_text_data_sets(data: Path) -> None:
    create_text_samples(data / "text.jsonl", 2)
    found = preview(data, "./data/text.jsonl")
    assert (found.kind, found.images) == ("text", 0)
    append(data, {"text": "What?", "image": "shapes_images/0001.png", "response": "A shape.", "source": "web"})
    assert preview(data, start=4).rows[0].ignored == ["source"]


def test_a_large_picture_is_small_and_upright(data: Path) -> None:
    picture = Image.new("RGB", (3000, 1000), "red")
    exif = picture.getexif()
    exif[0x0112] = 6  # a phone held upright
    picture.save(data / "shapes/phone.jpg", exif=exif)
    append(data, {"text": "What?", "image": "phone.jpg", "response": "Red."})
    image = preview(data, start=4).rows[0].turns[0].parts[0]
    assert (image.width, image.height) == (1000, 3000)
    small = opened(image.image)
    assert small.height == 256 and small.width in (85, 86)


def test_a_broken_row_is_shown_with_its_picture_and_reason(data: Path) -> None:
    append(data, {"text": "What?", "image": "shapes_images/0001.png", "response": ""})
    append(data, {"text": "What?", "image": "nowhere.png", "response": "Nothing."})
    Image.new("RGB", (900, 4), "blue").save(data / "shapes/thin.png")
    append(data, {"text": "What?", "image": "thin.png", "response": "A line."})
    append(data, "not JSON")
    rows = preview(data, start=4).rows
    assert [row.row for row in rows] == [5, 6, 7, 8]
    empty, missing, thin, no_json = rows
    assert empty.problem == f'{SHAPES} row 5: "response" is empty; fill it in or remove the row'
    assert opened(empty.turns[0].parts[0].image).size == (224, 224)
    assert json.loads(empty.raw or "")["image"] == "shapes_images/0001.png"
    assert missing.problem and "nowhere.png' cannot be read" in missing.problem
    assert missing.turns[0].parts[0].image is None and missing.turns[1].parts[0].text == "Nothing."
    assert thin.problem and "900 x 4" in thin.problem
    assert opened(thin.turns[0].parts[0].image).size == (256, 1)
    assert no_json.problem and "row 8: not JSON" in no_json.problem and no_json.raw is None


def test_a_check_shows_the_broken_rows_of_the_whole_data_set(data: Path) -> None:
    append(data, "")
    append(data, {"text": "What?", "image": "shapes_images/0001.png", "response": ""})
    report = check(data)
    assert (report["path"], report["kind"], report["ok"], report["rows"]) == (SHAPES, "vision", False, 5)
    [row] = report["broken"]
    assert row["row"] == 6 and row["problem"] == report["problems"][0]
    assert row["turns"][0]["parts"][0]["image"].startswith("data:image/jpeg")


def test_a_data_set_that_cannot_be_read_says_why(data: Path) -> None:
    (data / "empty.jsonl").write_text("")
    assert preview(data, "./data/empty.jsonl").problems == ["./data/empty.jsonl: has no rows; add at least one"]
    assert check(data, "./data/empty.jsonl")["problems"] == ["./data/empty.jsonl: has no rows; add at least one"]


def test_no_picture_from_outside_is_shown(data: Path) -> None:
    (data / "shapes/shapes_images/0001.png").rename(data.parent / "secret.png")
    (data / "shapes/link.png").symlink_to(data.parent / "secret.png")
    for image in ("../../secret.png", "link.png", str(data.parent / "secret.png")):
        append(data, {"text": "What?", "image": image, "response": "A secret."})
    for row in preview(data, start=4).rows:
        assert row.problem and "is outside ./data" in row.problem
        assert not row.turns
    report = check(data)
    assert all("is outside ./data" in problem or "shapes_images/0001.png" in problem for problem in report["problems"])
    assert report["problem_count"] == 4, "the first row lost its image too"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("./data/../secret.jsonl", InvalidPath),
        ("./models/receipts", InvalidPath),
        ("/etc/passwd", InvalidPath),
        ("./data/nowhere.jsonl", NotFound),
    ],
)
def test_only_the_data_folder_is_read(data: Path, path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        preview(data, path)
    with pytest.raises(error):
        check(data, path)


def test_tokens_are_counted_by_a_model_of_the_workspace(data: Path, tiny_model: Callable[[str], Path]) -> None:
    shutil.copytree(tiny_model("qwen2_5_vl"), data.parent / "models" / "tiny")
    report = check(data, base_model="./models/tiny", max_seq_length=16)
    assert report["image_tokens"] > 0 and report["tokens"]["maximum"] > 16
    assert "4 of 4 rows are longer than maxSeqLength (16)" in report["problems"][0]
    missing = check(data, base_model="./models/gone")
    assert missing["ok"] and missing["tokens"] is None
    assert missing["notes"] == ["./models/gone: not a local directory; token counts skipped"]
    with pytest.raises(InvalidPath):
        check(data, base_model="./data/shapes")


def test_a_column_mapping_is_used_by_preview_and_check(data: Path) -> None:
    (data / "own.jsonl").write_text(json.dumps({"q": "Hi", "a": "Hello"}) + "\n")
    mapping = {"prompt": "q", "response": "a"}
    (row,) = preview(data, "./data/own.jsonl", column_mapping=mapping).rows
    assert [(turn.role, turn.parts[0].text) for turn in row.turns] == [("user", "Hi"), ("assistant", "Hello")]
    assert check(data, "./data/own.jsonl", column_mapping=mapping)["ok"]
    assert not check(data, "./data/own.jsonl")["ok"]


def test_every_key_of_a_mapping_can_be_asked_for() -> None:
    assert get_args(ColumnKey) == tuple(ColumnMapping.model_fields)
