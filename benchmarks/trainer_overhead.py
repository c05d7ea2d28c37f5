"""What the trainer costs around the arithmetic: seconds from process start to the first step, memory over a long run.

    OMP_NUM_THREADS=1 python -m benchmarks.trainer_overhead [--starts 3] [--steps 200] [--write]

On the tiny Qwen2.5-VL: the ten test pictures for the start, and for memory pictures of 1024 x 1024 pixels, one a step,
resident memory read at each step's report. ``--write`` puts the figures into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.sections import machine, table, write_section
from benchmarks.trainer_process import start, vision_job
from model_garden.contract.progress import Event, ProgressEvent, StageEvent, parse_event
from model_garden.contract.trainer_config import TrainerConfig
from testing.tiny_models import make_tiny_model

DATA = Path(__file__).parents[1] / "data"
PICTURES = 40
MIB = 2**20


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        make_tiny_model("qwen2_5_vl", workspace / "models" / "tiny")
        shutil.copytree(DATA, workspace / "data")
        _write_pictures(workspace / "data")
        starts = [_start(workspace, number) for number in range(args.starts)]
        memory = _memory(workspace, args.steps)
    content = _told(starts, memory, args.steps)
    print(content)
    if args.write:
        write_section("trainer-overhead", content)


def _write_pictures(data: Path) -> None:
    """``PICTURES`` JPEG files of 1024 x 1024 pixels, no two alike, and their rows."""
    from PIL import Image

    chance, rows = random.Random(0), []
    for number in range(PICTURES):
        small = Image.frombytes("RGB", (64, 64), chance.randbytes(64 * 64 * 3))
        small.resize((1024, 1024), Image.Resampling.BICUBIC).save(data / f"{number}.jpg")
        rows.append(json.dumps({"text": "Which number?", "image": f"{number}.jpg", "response": f"Number {number}."}))
    (data / "large.jsonl").write_text("\n".join(rows))


def _start(workspace: Path, number: int) -> dict[str, float]:
    """Seconds from the start of a process until each stage began, and until the first step was done."""
    began = time.perf_counter()
    seconds: dict[str, float] = {}
    job = vision_job(
        f"start-{number}", {"datasetPath": "./data/vision_test_dataset.jsonl", "hyperparameters": {"maxSteps": 1}}
    )
    for _, event in _events(workspace, job):
        if isinstance(event, StageEvent):
            seconds.setdefault(event.stage, time.perf_counter() - began)
        elif isinstance(event, ProgressEvent):
            seconds.setdefault("first step", time.perf_counter() - began)
    return seconds


def _memory(workspace: Path, steps: int) -> dict[int, float]:
    """MiB of resident memory at each step."""
    hyperparameters = {"maxSteps": steps, "batchSize": 1, "gradientAccumulationSteps": 1, "saveSteps": steps}
    job = vision_job("memory", {"datasetPath": "./data/large.jsonl", "hyperparameters": hyperparameters})
    found = {}
    for process, event in _events(workspace, job):
        if isinstance(event, ProgressEvent):
            found[event.progress.step] = _resident(process) / MIB
    return found


def _events(workspace: Path, job: TrainerConfig) -> Iterator[tuple[int, Event]]:
    """The events of a run as they come, each with the process id; raises where the run fails."""
    with start(workspace, job) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = parse_event(line)
            if event is not None:
                yield process.pid, event
    if process.returncode:
        raise SystemExit(f"{job.name}: the trainer ended with {process.returncode}")


def _resident(process: int) -> int:
    """Bytes of resident memory, as Linux counts them (proc_pid_statm(5): the second field, in pages)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _told(starts: list[dict[str, float]], memory: dict[int, float], steps: int) -> str:
    stages = ["dataset", "model", "training", "first step"]
    medians = [statistics.median(start[stage] for start in starts) for stage in stages]
    words = [
        "imports done, data set opened",
        "rows checked and encoded",
        "model loaded, adapters added",
        "first step done",
    ]
    last = max(memory)
    marks = sorted({1, 10, steps // 2, last} & memory.keys())
    return "\n\n".join(
        [
            "## Trainer: overhead and memory",
            f"`python -m benchmarks.trainer_overhead`. Tiny Qwen2.5-VL, transformers backend; {machine()}; "
            f"load average {os.getloadavg()[0]:.1f} meanwhile.",
            table(
                ["from process start until", f"seconds (median of {len(starts)})"],
                [[word, f"{seconds:.1f}"] for word, seconds in zip(words, medians, strict=True)],
            ),
            f"Resident memory of the process over {last} steps, each with another picture of 1024 x 1024 pixels:",
            table(["step", "MiB"], [[str(step), f"{memory[step]:.0f}"] for step in marks]),
        ]
    )


if __name__ == "__main__":
    main()
