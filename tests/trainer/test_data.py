"""Which rows a run takes, and by what it knows them again. No torch."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model_garden.datasets import open_examples
from model_garden.datasets.digest import digest_files, digest_pictures
from model_garden.datasets.mirror import Mirror
from model_garden_trainer.batches.splits import check, check_rows, open_data, repeated
from model_garden_trainer.errors import TrainingError
from tests.trainer.workspace import TEXT, config


@pytest.fixture
def splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders ``a`` and ``b`` of files that name a split; a row says where it is from."""
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        for split in ("train", "validation", "test"):
            file = tmp_path / folder / f"{split}.jsonl"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps({"text": f"{folder} {split}"}) + "\n")


def rows(**fields: str) -> list[object]:
    data = open_data(config("x", TEXT, {"datasetPath": "./a"}, fields).spec, 0)
    return [part[0].messages[0].parts[0] for part in (data.training, data.validation) if len(part)]


@pytest.mark.usefixtures("splits")
def test_dataset_split_is_of_the_rows_trained_on_alone() -> None:
    assert rows(datasetSplit="test") == ["a test"]
    assert rows(datasetSplit="test", validationDatasetPath="./b") == ["a test", "b train"]


@pytest.mark.usefixtures("splits")
def test_the_same_data_set_gives_its_validation_split_and_not_the_rows_trained_on() -> None:
    assert rows(validationDatasetPath="./a") == ["a train", "a validation"]
    with pytest.raises(TrainingError, match="validationFraction"):
        rows(datasetPath="./a/train.jsonl", validationDatasetPath="./a/train.jsonl")


@pytest.mark.usefixtures("splits")
@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        ({"datasetPath": "./a", "validationDatasetPath": "./a/train.jsonl"}, "./a/train.jsonl holds .*a/train.jsonl"),
        ({"datasetPath": "./a/test.jsonl", "validationDatasetPath": "./linked.jsonl"}, "a/test.jsonl"),
        ({"datasetPath": "./a", "datasetSplit": "val", "validationDatasetPath": "./a"}, "a/validation.jsonl"),
    ],
    ids=["a file of the folder", "a link to the file", "another name of the split"],
)
def test_validation_rows_in_a_file_that_is_trained_on_are_refused(fields: dict[str, str], shared: str) -> None:
    """They would choose the best checkpoint, stop the training and be scored, as rows that the model does not know."""
    Path("linked.jsonl").symlink_to("a/test.jsonl")
    with pytest.raises(TrainingError, match=rf"spec.validationDatasetPath: .*{shared}, whose rows") as e:
        rows(**fields)
    assert e.value.reason == "InvalidDataset"


def told(folder: Path, **fields: object) -> list[str]:
    """The warnings about rows that are measured and trained on, where the data set is ``folder``/rows.jsonl."""
    data = open_data(config("x", TEXT, {"datasetPath": f"{folder}/rows.jsonl"}, fields).spec, 0)
    asked = check_rows(data.evaluation, data.bounds) if data.evaluation else None
    return repeated(data, check(data, None, 4096), asked)


def write(file: Path, *rows: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_that_measure_the_model_and_are_trained_on_are_counted_in_a_warning(tmp_path: Path) -> None:
    rows = [{"instruction": f"{n}+{n}?", "output": str(2 * n)} for n in range(6)]
    write(tmp_path / "rows.jsonl", *rows)
    # The same row in another format, and the same question with another answer.
    chat = [{"role": "user", "content": "3+3?"}, {"role": "assistant", "content": "6"}]
    held_out = {"instruction": "7+7?", "output": "14"}, {"messages": chat}, rows[5] | {"output": "?"}
    write(tmp_path / "held.jsonl", *held_out)
    held = str(tmp_path / "held.jsonl")
    [warning] = told(tmp_path, validationDatasetPath=held)
    start = "the model is trained on 1 of the 3 row(s) too, first"
    assert warning.startswith(f"spec.validationDatasetPath: {start} {held} row 2; ")
    [warning] = told(tmp_path, evaluation={"datasetPath": held, "metrics": ["exact_match"]})
    assert warning.startswith(f"spec.evaluation.datasetPath: {start} {held} row 2; ")
    assert told(tmp_path, validationFraction=0.5) == []
    write(tmp_path / "rows.jsonl", *rows, *rows)
    [warning] = told(tmp_path, validationFraction=0.01)
    assert warning.startswith("spec.validationFraction: the model is trained on 1 of the 1 row(s) too, ")


def test_an_image_is_known_again_by_its_bytes(tmp_path: Path) -> None:
    """Also in a row, or under another name; not by its size and its end, which two scans of a form may share."""
    form = Image.new("RGB", (64, 64), "white")
    for folder in ("train", "copied", "inside", "other"):
        file = tmp_path / folder / f"{folder}.bmp"
        row = {"image": file.name, "text": "Color?", "response": "red"}
        file.parent.mkdir()
        form.putpixel((32, 32), (0, 0, 255) if folder == "other" else (255, 0, 0))
        form.save(file)
        if folder == "inside":
            row["image"] = f"data:image/bmp;base64,{b64encode(file.read_bytes()).decode()}"
        write(tmp_path / folder / "rows.jsonl", row)
    vision = {"isVision": True, "baseModel": "./models/qwen2_5_vl"}
    found = {
        folder: len(told(tmp_path / "train", **vision, validationDatasetPath=str(tmp_path / folder / "rows.jsonl")))
        for folder in ("copied", "inside", "other")
    }
    assert found == {"copied": 1, "inside": 1, "other": 0}


@pytest.mark.parametrize(
    ("method", "row", "same", "other"),
    [
        ("grpo", {"prompt": "1+1?", "answer": "2", "id": 1}, {"id": 2}, {"answer": "3"}),
        ("dpo", {"prompt": "1+1?", "chosen": "2", "rejected": "3"}, {}, {"rejected": "4"}),
        ("kto", {"prompt": "1+1?", "completion": "2", "label": True}, {}, {"label": False}),
    ],
)
def test_a_row_of_each_method_is_known_again(
    tmp_path: Path, method: str, row: dict[str, Any], same: dict[str, Any], other: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {"method": method, "validationDatasetPath": str(tmp_path / "held.jsonl")}
    fields |= {"rewards": {"functions": ["exact_match"]}} if method == "grpo" else {}
    write(tmp_path / "rows.jsonl", row)
    write(tmp_path / "held.jsonl", row | same, row | other)
    [warning] = told(tmp_path, **fields)
    assert "trained on 1 of the 2 row(s) too, first" in warning and "held.jsonl row 1; " in warning


def test_a_fetched_file_is_the_same_one_in_two_copies(tmp_path: Path) -> None:
    """A bucket's folder and a file of it are fetched apart."""
    files = []
    for copy in ("all", "one"):
        (tmp_path / copy).mkdir()
        (tmp_path / copy / "b.jsonl").write_text('{"text": "b"}')
        place = tmp_path / copy / ("b.jsonl" if copy == "one" else "")
        mirror = Mirror("s3://bucket/data/", tmp_path / copy)
        files.append(open_examples(place, vision=False, mirror=mirror).files)
    assert files == [{"s3://bucket/data/b.jsonl"}] * 2


def test_a_picture_that_changes_under_the_same_rows_is_noticed_and_a_copy_is_not(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (32, 32), colour).save(original / f"{name}.bmp")  # all of the same size
    lines = [{"image": f"{name}.bmp", "text": "What?", "response": "This."} for name in "ab"]
    (original / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.copytree(original, copy)  # with other times

    def known(folder: Path) -> str:
        return digest_pictures(open_examples(folder / "data.jsonl", vision=True))

    before = known(original)
    assert known(copy) == before
    shutil.copy(original / "a.bmp", copy / "b.bmp")
    assert known(copy) != before
    (copy / "b.bmp").unlink()
    assert known(copy) != before  # and the check of the rows says what is missing


def test_a_row_that_changes_in_the_middle_of_a_file_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(b"x" * 3 * 2**20)
    before = digest_files(str(file))
    with file.open("r+b") as content:
        content.seek(3 * 2**19)
        content.write(b"y")
    assert digest_files(str(file)) != before
