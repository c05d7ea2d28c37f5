"""Whatever a caller sends, it names something inside the data folder."""

import pytest

from model_garden.storage.interface import InvalidPath
from model_garden.storage.paths import folder_name, relative_path, stored_path

ESCAPES = [
    "..",
    "../x",
    "a/../b",
    "a/../../b",
    "/etc/passwd",
    "//etc/passwd",
    "a//b",
    "./a",
    "a/./b",
    "a/",
    "",
    "..\\x",
    "a\\..\\b",
    "C:\\x",
    "a\0b",
    "a\nb",
    "a\x1b[2Jb",
    "\ud800",
    ".hidden",
    ".upload-1",
    "a/.git/config",
    "a" * 256,
    "ä" * 128,
    "/".join(["a" * 100] * 11),
]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_path_that_could_leave_the_folder_is_refused_in_words(path: str) -> None:
    with pytest.raises(InvalidPath) as refused:
        relative_path(path)
    [line] = refused.value.problems
    assert line.isprintable() and len(line) < 400 and (";" in line)
    for root in ("./data/", "data/", "./models/", "/workspace/data/"):
        if path not in ("a/",):  # a folder's path may end so
            with pytest.raises(InvalidPath):
                stored_path(root + path)


@pytest.mark.parametrize("path", ["a.png", "images/a b.png", "Größe/日本語.jpg", "a" * 255, "x~", "what?.png"])
def test_an_ordinary_name_is_kept_as_it_is(path: str) -> None:
    assert relative_path(path) == path
    assert stored_path(f"./data/{path}") == ("data", path)


@pytest.mark.parametrize("path", ["./data", "data/", "/etc/passwd", "./other/rows.jsonl", "hf://datasets/a/b"])
def test_only_data_and_models_are_stored(path: str) -> None:
    with pytest.raises(InvalidPath, match=r"is not in \./data or \./models"):
        stored_path(path)


@pytest.mark.parametrize("folder", ["receipts", "data/receipts", "./data/receipts", "./data/receipts/", "receipts/"])
def test_a_folder_is_named_in_every_usual_way(folder: str) -> None:
    assert folder_name(folder) == "receipts"


@pytest.mark.parametrize("folder", ["", ".", "..", "data/..", "a/b", "/receipts", "./data/", ".upload-1", "a\\b"])
def test_a_folder_is_one_name_in_the_data_folder(folder: str) -> None:
    with pytest.raises(InvalidPath):
        folder_name(folder)
