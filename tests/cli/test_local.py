"""Training on this machine: the real trainer, tiny models, no cluster."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_garden.local.process import gpus as local_gpus
from tests.cli.conftest import COMMAND, ROOT, Done, environment

pytestmark = pytest.mark.train


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Path:
    """A folder with the test pictures and a tiny vision model."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny_model("qwen2_5_vl"))
    return tmp_path


def test_the_promised_command_trains_and_says_how_to_load_the_model(workspace: Path, cli: Callable[..., Done]) -> None:
    done = cli(
        *("train-vision", "--base-model", "./models/tiny", "--dataset", "./data/vision_test_dataset.jsonl"),
        *("--output-dir", "./models/test-vision-model", "--epochs", "3", "--batch-size", "1", "--max-steps", "3"),
    )
    assert done.returncode == 0, done.stderr
    assert "step 3/3 (100%)  loss " in done.stderr
    assert done.stderr.count("step 3/3") == 1
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["result"].startswith("Succeeded in ")
    assert rows["steps"] == "3 of 3"
    assert rows["output"].startswith("./models/test-vision-model  (") and rows["output"].endswith(", verified)")
    kind = done.stdout.split("transformers.")[1].split(".")[0]
    assert kind == "AutoModelForImageTextToText"
    assert (workspace / "models" / "test-vision-model" / "adapter_model.safetensors").exists()
    _asks_the_model(workspace, cli)


def _asks_the_model(workspace: Path, cli: Callable[..., Done]) -> None:
    image = next((workspace / "data").rglob("*.png"), None) or next((workspace / "data").rglob("*.jpg"))
    limit = ("--max-new-tokens", "4")
    done = cli(
        "chat", "test-vision-model", "--compare", *limit, "--image", str(image), given="What is it?\n/new\nAnd?\n"
    )
    assert done.returncode == 0, done.stderr
    answers = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert [name for name in answers if name in ("base", "tuned")] == ["base", "tuned"] * 2
    done = cli("chat", "nowhere")
    assert done.returncode == 1 and "model-garden download nowhere" in done.stderr

    done = cli("serving", "test-vision-model")
    assert done.returncode == 0 and "vllm serve ./models/tiny" in done.stdout
    card = (workspace / "models" / "test-vision-model" / "README.md").read_text()
    assert "vllm serve ./models/tiny" in card


def test_bad_data_ends_with_the_trainers_exit_code_and_the_row(workspace: Path, cli: Callable[..., Done]) -> None:
    row = {"text": "What is it?", "image": "nowhere.png", "response": "Nothing."}
    (workspace / "data" / "bad.jsonl").write_text(json.dumps(row) + "\n")
    arguments = ("train-vision", "--base-model", "./models/tiny", "--dataset", "./data/bad.jsonl")
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert "error: InvalidDataset: data/bad.jsonl row 1: " in done.stderr
    assert done.stderr.count("nowhere.png") == 1
    done = cli(*arguments, "--output", "json")
    assert "error: InvalidDataset" in done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["result"], outcome["reason"], outcome["exitCode"]) == ("Failed", "InvalidDataset", 3)


def test_ctrl_c_keeps_a_checkpoint_and_the_same_command_goes_on(workspace: Path, cli: Callable[..., Done]) -> None:
    example = (ROOT / "manifests" / "examples" / "vision.yaml").read_text()
    spec = example.replace("./models/tiny-qwen2.5-vl", "./models/tiny")
    steps = 60
    (workspace / "job.yaml").write_text(re.sub("maxSteps: .*", f"maxSteps: {steps}", spec))
    shown, code = interrupted_in_a_terminal([COMMAND, "run", "job.yaml"], workspace)
    assert code == 143, shown
    assert "━" in shown
    assert "Run the same command again to resume." in shown
    step = int(shown.split("Stopped at step ")[1].split(";")[0])
    done = cli("run", "job.yaml", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert f"Resumed from the checkpoint of step {step}" in done.stderr
    assert json.loads(done.stdout)["output"]["trainedSteps"] == steps


def interrupted_in_a_terminal(command: list[str], folder: Path) -> tuple[str, int]:
    """What a terminal shows of ``command`` when Ctrl-C is pressed at the first step, and how it ends."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(TERM="xterm-256color"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, pressed = "", False
    while chunk := _read(ours):
        shown += chunk
        if not pressed and "loss" in shown:
            pressed = True
            os.kill(process.pid, signal.SIGINT)
    os.close(ours)
    return shown, process.wait(timeout=60)


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 65_536).decode(errors="replace")
    except OSError:  # how Linux says that the other side is closed
        return ""


def test_no_file_of_the_folder_hides_a_module(workspace: Path, cli: Callable[..., Done]) -> None:
    (workspace / "json.py").write_text("raise SystemExit('hidden')")
    done = cli("train-vision", "--base-model", "./models/nothing", "--dataset", "./data/vision_test_dataset.jsonl")
    assert done.returncode == 4, done.stderr
    assert "ModelNotFound" in done.stderr


@pytest.mark.parametrize(("visible", "gpus"), [("", 0), ("-1", 0)])
def test_hidden_gpus_do_not_count(monkeypatch: pytest.MonkeyPatch, visible: str, gpus: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == gpus


def test_without_the_training_packages_it_is_said_how_to_install_them(tmp_path: Path) -> None:
    """A Python that finds no torch stands for an installation without the extra."""
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from model_garden.cli import main\n"
        "sys.argv = ['model-garden', 'train', '--base-model', 'a/b', '--dataset', 'x.jsonl']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'model-garden[trainer]'" in done.stderr
