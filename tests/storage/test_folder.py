"""What a folder of this machine lists, and what may be deleted."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from model_garden.services.errors import Conflict, NotFound
from model_garden.storage.folder import FolderStorage
from model_garden.storage.interface import InvalidPath, StorageFailed


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    """A workspace with data sets, a model of a finished run, and things that are neither."""
    write(
        tmp_path / "data",
        **{
            "rows.jsonl": "{}\n",
            "receipts/receipts.jsonl": "{}\n{}\n",
            "receipts/images/1.png": "png",
            "splits/train.jsonl": "{}\n",
            "splits/test.jsonl": "{}\n",
            "notes.txt": "no data set",
            ".upload-1/rows.jsonl": "{}\n",
            ".hidden.jsonl": "{}\n",
            "receipts/.hidden/secret.png": "png",
        },
    )
    write(
        tmp_path / "models",
        **{
            "receipts/adapter_config.json": '{"base_model_name_or_path": "a/b"}',
            "receipts/adapter_model.safetensors": "weights",
            "receipts/merged/config.json": "{}",
            "receipts/receipts-q4_k_m.gguf": "gguf",
            "receipts/checkpoints/checkpoint-1/adapter_model.safetensors": "weights",
            "receipts/training_config.json": json.dumps(
                {
                    "spec": {"baseModel": "a/b", "datasetPath": "./data/rows.jsonl"},
                    "output": {"path": "models/receipts", "trainedSteps": 7, "bestStep": 4, "verified": True},
                }
            ),
            "running/checkpoints/checkpoint-1/adapter_model.safetensors": "weights",
            "base/config.json": "{}",
            "base/model.safetensors": "weights",
        },
    )
    write(tmp_path, **{"secret/rows.jsonl": "{}\n"})
    (tmp_path / "data/linked").symlink_to(tmp_path / "secret")
    (tmp_path / "data/receipts/linked.jsonl").symlink_to(tmp_path / "secret/rows.jsonl")
    (tmp_path / "models/linked").symlink_to(tmp_path / "secret")
    return FolderStorage(tmp_path)


def test_data_sets_are_listed_with_the_path_for_a_job(storage: FolderStorage) -> None:
    listed = {one.name: one for one in asyncio.run(storage.datasets())}
    assert {name: one.path for name, one in listed.items()} == {
        "receipts": "./data/receipts/receipts.jsonl",
        "rows.jsonl": "./data/rows.jsonl",
        "splits": "./data/splits",
    }
    assert (listed["receipts"].files, listed["receipts"].size) == (2, 9)
    assert listed["splits"].data_files == ["./data/splits/test.jsonl", "./data/splits/train.jsonl"]


def test_models_are_listed_with_what_they_hold(storage: FolderStorage) -> None:
    listed = {one.name: one for one in asyncio.run(storage.models())}
    assert {name: one.kinds for name, one in listed.items()} == {
        "base": ["model"],
        "receipts": ["adapter", "merged", "gguf"],
        "running": [],
    }
    model = listed["receipts"]
    assert (model.base_model, model.dataset_path, model.trained_steps, model.best_step, model.verified) == (
        "a/b",
        "./data/rows.jsonl",
        7,
        4,
        True,
    )
    assert model.files == 5, "checkpoints are not a part of the model"


def test_a_workspace_without_folders_is_empty(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    assert asyncio.run(storage.datasets()) == [] and asyncio.run(storage.models()) == []


def test_a_data_set_or_model_is_deleted_as_a_whole(storage: FolderStorage, tmp_path: Path) -> None:
    for path in ("./data/receipts/receipts.jsonl", "./data/splits", "./data/rows.jsonl", "./models/receipts"):
        asyncio.run(storage.remove(path))
    assert asyncio.run(storage.datasets()) == []
    assert {one.name for one in asyncio.run(storage.models())} == {"base", "running"}
    assert (tmp_path / "data/notes.txt").exists() and (tmp_path / "secret/rows.jsonl").exists()


def test_a_deletion_that_breaks_off_leaves_no_half_data_set(
    storage: FolderStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("model_garden.storage.folder.shutil.rmtree", broken)
    (tmp_path / "data/sums").mkdir(parents=True)
    (tmp_path / "data/sums/rows.jsonl").write_text("{}")
    with pytest.raises(StorageFailed):
        asyncio.run(storage.remove("./data/sums"))
    assert "sums" not in [one.name for one in asyncio.run(storage.datasets())]


def test_what_a_killed_deletion_left_is_removed_by_a_later_one(storage: FolderStorage, tmp_path: Path) -> None:
    write(tmp_path / "models", **{".upload-old/weights": "half", ".upload-new/weights": "half"})
    for path in (tmp_path / "models/.upload-old/weights", tmp_path / "models/.upload-old"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    asyncio.run(storage.remove("./models/receipts"))
    assert [path.name for path in (tmp_path / "models").glob(".*")] == [".upload-new"]


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("./data/splits/train.jsonl", Conflict, r"is a part of \./data/splits; name \./data/splits"),
        ("./models/receipts/merged", Conflict, r"is a part of \./models/receipts"),
        ("./data/linked", InvalidPath, "a symbolic link leads out of ./data"),
        ("./data/receipts/linked.jsonl", InvalidPath, "a symbolic link leads out of ./data"),
        ("./data/nowhere", NotFound, "there is no ./data/nowhere"),
    ],
)
def test_nothing_else_is_deleted(storage: FolderStorage, path: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        asyncio.run(storage.remove(path))


def test_what_cannot_be_read_or_named_does_not_hide_the_rest(
    storage: FolderStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data", **{"lost+found/rows.jsonl": "{}\n"})
    write(tmp_path / "models", **{"odd/training_config.json": '{"spec": {"baseModel": 7}, "output": {"verified": 7}}'})
    write(tmp_path / "models", **{"odd/adapter_config.json": "[1]", "worse/training_config.json": '{"spec": "x"'})
    Path(os.fsdecode(os.fsencode(tmp_path / "data") + b"/\xff.jsonl")).write_text("{}\n")

    def refused(folder: str | Path) -> object:
        if Path(folder).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refused)  # the tests may run as root, who may read everything
    assert [one.name for one in asyncio.run(storage.datasets())] == ["receipts", "rows.jsonl", "splits"]
    models = {one.name: one for one in asyncio.run(storage.models())}
    assert models["receipts"].verified is True
    assert models["odd"].base_model is None and models["odd"].verified is None and models["worse"].kinds == []


@pytest.mark.parametrize("name", ["data", "models"])
def test_a_root_may_be_a_link_to_another_disk(tmp_path: Path, name: str) -> None:
    write(tmp_path / "disk", **{"one/rows.jsonl": "{}\n"})
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / name).symlink_to(tmp_path / "disk")
    storage = FolderStorage(tmp_path / "work")
    listed = asyncio.run(storage.datasets() if name == "data" else storage.models())
    assert [one.name for one in listed] == ["one"]
