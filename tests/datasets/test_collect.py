"""The files that an upload takes: exactly those that the rows name, and rows that find them again."""

import json
from pathlib import Path

import pytest

from model_garden.datasets import DatasetError
from model_garden.datasets.collect import Collection, collect
from model_garden.datasets.samples import create_vision_samples

QUESTION = {"text": "What is this?", "response": "A square"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    made = create_vision_samples(tmp_path / "made" / "sample.jsonl", 1)
    return next(Path(made).parent.rglob("*.png"))


def place(picture: Path, *targets: Path) -> None:
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture.read_bytes() + str(target).encode())


def write(file: Path, *rows: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def gathered(path: Path, tmp_path: Path) -> Collection:
    return collect(path, vision=True, copies=tmp_path / "copies")


def rows_of(found: Collection, name: str) -> list[dict]:
    return [json.loads(line) for line in found.files[name].read_text().splitlines()]


def test_only_images_that_rows_name_are_taken_and_the_file_stays_as_it_is(tmp_path: Path, picture: Path) -> None:
    folder = tmp_path / "set"
    place(picture, folder / "images/a.png", folder / "images/unused.png", folder / "secret.txt")
    file = write(folder / "rows.jsonl", QUESTION | {"image": "images/a.png"}, QUESTION | {"image": "./images/a.png"})
    found = gathered(file, tmp_path)
    assert found.files == {"images/a.png": folder / "images/a.png", "rows.jsonl": file}
    assert not found.rewritten


def test_images_from_elsewhere_get_a_place_in_the_folder(tmp_path: Path, picture: Path) -> None:
    folder, there = tmp_path / "set", tmp_path / "there"
    place(picture, there / "a.png", there / "b/a.png", folder / "images/a.png")
    turn = {
        "role": "user",
        "content": [{"type": "image", "image": f"file://{there}/a.png"}, {"type": "text", "text": "?"}],
    }
    rows = [
        QUESTION | {"image": str(there / "a.png"), "id": str(there / "a.png")},
        QUESTION | {"image": "../there/b/a.png"},
        QUESTION | {"image": str(folder / "images/a.png")},
        {"messages": [turn, {"role": "assistant", "content": "yes"}]},
    ]
    file = write(folder / "rows.jsonl", *rows, QUESTION | {"image": "images/a.png"})
    found = gathered(file, tmp_path)
    assert found.rewritten == {"rows.jsonl": 4}
    written = rows_of(found, "rows.jsonl")
    assert written[0]["id"] == str(there / "a.png"), "a text that is no image stays"
    names = [row["image"] for row in written if "image" in row]
    assert [found.files[name].read_bytes() for name in names] == [
        path.read_bytes()
        for path in (there / "a.png", there / "b/a.png", folder / "images/a.png", folder / "images/a.png")
    ]
    assert found.files[written[3]["messages"][0]["content"][0]["image"]] == there / "a.png"
    assert json.loads(file.read_text().splitlines()[0])["image"] == str(there / "a.png"), "the original stays"


def test_rows_of_a_folder_name_images_from_their_own_place(tmp_path: Path, picture: Path) -> None:
    folder = tmp_path / "set"
    place(picture, folder / "images/a.png", folder / "train/b.png", tmp_path / "c.png")
    write(
        folder / "train/rows.jsonl",
        *(QUESTION | {"image": name} for name in ("b.png", "../images/a.png", "../../c.png")),
    )
    found = gathered(folder, tmp_path)
    names = [row["image"] for row in rows_of(found, "train/rows.jsonl")]
    assert names == ["b.png", "../images/a.png", "../images/c.png"]
    assert set(found.files) == {"train/rows.jsonl", "train/b.png", "images/a.png", "images/c.png"}


def test_a_table_with_other_images_becomes_json_lines(tmp_path: Path, picture: Path) -> None:
    file = tmp_path / "set/rows.csv"
    file.parent.mkdir()
    file.write_text(f"text,response,image\n?,yes,{picture}\n")
    found = gathered(file, tmp_path)
    assert set(found.files) == {"rows.jsonl", f"images/{picture.name}"}
    assert rows_of(found, "rows.jsonl") == [{"text": "?", "response": "yes", "image": f"images/{picture.name}"}]


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{\n")
    with pytest.raises(DatasetError, match=r"rows.jsonl row 1: not JSON"):
        gathered(file, tmp_path)


def test_images_of_a_mapped_column_are_taken_and_renamed(tmp_path: Path, picture: Path) -> None:
    place(picture, tmp_path / "there/a.png")
    file = write(tmp_path / "set/rows.jsonl", {"q": "What?", "a": "A square", "photo": str(tmp_path / "there/a.png")})
    columns = {"prompt": "q", "response": "a", "image": "photo"}
    found = collect(file, vision=True, copies=tmp_path / "copies", columns=columns)
    assert found.files["images/a.png"] == tmp_path / "there/a.png"
    assert rows_of(found, "rows.jsonl")[0]["photo"] == "images/a.png"


def test_prompts_alone_are_taken_with_their_method(tmp_path: Path) -> None:
    file = write(tmp_path / "set/rows.jsonl", {"prompt": [{"role": "user", "content": "2+2?"}], "answer": "4"})
    assert collect(file, vision=False, copies=tmp_path, method="grpo").files == {"rows.jsonl": file}
