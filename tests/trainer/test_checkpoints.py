"""Checkpoints: whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_garden_trainer.engine import checkpoints

FILES = ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json", "nested/rng_state.pth")


def write(root: Path, step: int, sealed: bool = True) -> Path:
    folder = root / f"checkpoint-{step}"
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{name} of {step}".encode() * 9)
    if sealed:
        checkpoints.seal(folder, "print", {"loss": 1.5})
    return folder


def step(root: Path) -> int | None:
    found = checkpoints.newest(root)
    return found.step if found else None


def test_the_newest_complete_one_is_resumed_from(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "none") is None
    for number in (8, 9, 10):
        write(tmp_path, number)
    write(tmp_path, 11, sealed=False)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert (found.step, found.fingerprint, found.notes) == (10, "print", {"loss": 1.5})


@pytest.mark.parametrize("name", [*FILES, checkpoints.SEAL])
def test_one_that_is_cut_short_at_any_file_is_passed_over(tmp_path: Path, name: str) -> None:
    write(tmp_path, 1)
    path = write(tmp_path, 2) / name
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(damaged)
        assert step(tmp_path) == 1
    path.unlink()
    assert step(tmp_path) == 1
    path.write_bytes(whole)
    assert step(tmp_path) == 2


def test_an_older_one_goes_only_when_enough_newer_ones_are_complete(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path, number)
    write(tmp_path, 4, sealed=False)
    checkpoints.prune(tmp_path, 2, best_step=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    checkpoints.prune(tmp_path, 1, best_step=None)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "mine").mkdir()
    checkpoints.prune(tmp_path, 1, best_step=None)
    assert len(list(tmp_path.iterdir())) == 2
