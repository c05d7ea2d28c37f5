"""The main process of the pod: it stays while a verb works, and not much longer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_garden.storage.idle import ACTIVITY, busy


def start(folder: Path, seconds: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-m", "model_garden.storage.idle", seconds], cwd=folder)
    while not (folder / ACTIVITY).exists():
        assert process.poll() is None or (folder / ACTIVITY).exists()
    return process


def test_it_ends_when_nothing_happens(tmp_path: Path) -> None:
    assert start(tmp_path, "0").wait(30) == 0


def test_it_stays_while_a_verb_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ACTIVITY.touch()
    with busy():
        process = start(tmp_path, "0.1")
        os.utime(ACTIVITY, (0, 0))  # the verb works for a long time already
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
    assert process.wait(30) == 0


def test_it_ends_when_its_pod_is_deleted(tmp_path: Path) -> None:
    process = start(tmp_path, "1000")
    process.terminate()
    assert process.wait(30) in (0, -15)  # before or after it set its own reaction
