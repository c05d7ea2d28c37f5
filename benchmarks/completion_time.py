"""How far the estimated completion time is off, at a quarter, half and three quarters of whole runs.

    OMP_NUM_THREADS=1 python -m benchmarks.completion_time [--runs 10] [--write]

Each run is a process that trains a tiny Qwen2.5-VL with evaluations and checkpoints, saves it in one of two formats and
verifies it. Three more runs are stopped in the middle and started again. ``--write`` puts the figures into
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.sections import machine, table, write_section
from benchmarks.trainer_process import start, vision_job
from model_garden.contract.progress import ProgressEvent, ResumedEvent, parse_event
from model_garden.contract.trainer_config import TrainerConfig
from testing.tiny_models import make_tiny_model

DATA = Path(__file__).parents[1] / "data"
STEPS = 120
SHARES = (0.25, 0.5, 0.75)
STOP_AT = STEPS // 2 + 7
STOPPED = 3


@dataclass(frozen=True)
class Report:
    """A report of a step: when it came and when it expected the run to end, both as Unix times in seconds."""

    at: float
    expected: float
    resumed: bool


@dataclass(frozen=True)
class Measured:
    """A whole run: the format of its model, its reports, its begin and its end."""

    save_method: str
    reports: list[Report]
    began: float
    ended: float

    def error(self, share: float) -> float:
        """The error of the report that was current at ``share`` of the run's duration, as a share of that duration."""
        moment = self.began + share * (self.ended - self.began)
        known = [report for report in self.reports if report.at <= moment] or self.reports[:1]
        return self._off(known[-1])

    def error_after_resume(self) -> float | None:
        """The error of the first report after the run was resumed; None for a run that was not stopped."""
        return next((self._off(report) for report in self.reports if report.resumed), None)

    @property
    def row(self) -> list[str]:
        """The format, the seconds, and the errors: those of a run that went through, or the one after a resume."""
        resumed = self.error_after_resume()
        shares = [f"{self.error(share):+.1%}" if resumed is None else "" for share in SHARES]
        last = "" if resumed is None else f"{resumed:+.1%}"
        return [self.save_method, f"{self.ended - self.began:.0f}", *shares, last]

    def _off(self, report: Report) -> float:
        return (report.expected - self.ended) / (self.ended - self.began)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    args = parser.parse_args()
    runs: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        make_tiny_model("qwen2_5_vl", workspace / "models" / "tiny")
        shutil.copytree(DATA, workspace / "data")
        for number in range(args.runs + STOPPED):
            runs.append(_run(workspace, number, stops=number >= args.runs))
            print(runs[-1].row, flush=True)
    content = _told(runs)
    print(content)
    if args.write:
        write_section("completion-time", content)


def _run(workspace: Path, number: int, *, stops: bool) -> Measured:
    """One run, and where it is stopped its second start."""
    save_method = ("lora", "merged_16bit")[number % 2]
    job = _job(f"run-{number}", save_method)
    began = time.time()
    reports = list(_reports(workspace, job, stop_at=STOP_AT if stops else None))
    if stops:
        reports += _reports(workspace, job)
    return Measured(save_method, reports, began, time.time())


def _job(name: str, save_method: str) -> TrainerConfig:
    return vision_job(
        name,
        {
            "datasetPath": "./data/vision_test_dataset.jsonl",
            "validationFraction": 0.2,
            "saveMethod": save_method,
            "hyperparameters": {"maxSteps": STEPS, "evalSteps": 30, "saveSteps": 40, "gradientAccumulationSteps": 4},
        },
    )


def _reports(workspace: Path, job: TrainerConfig, stop_at: int | None = None) -> Iterator[Report]:
    resumed = False
    with start(workspace, job) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = parse_event(line)
            resumed = resumed or isinstance(event, ResumedEvent)
            if isinstance(event, ProgressEvent) and event.progress.estimated_completion_time:
                expected = datetime.fromisoformat(event.progress.estimated_completion_time).timestamp()
                yield Report(time.time(), expected, resumed)
                if event.progress.step == stop_at:
                    process.send_signal(signal.SIGTERM)
    if process.returncode and stop_at is None:
        raise SystemExit(f"{job.name}: the trainer ended with {process.returncode}")


def _told(runs: list[Measured]) -> str:
    header = ["run", "saveMethod", "seconds", "at 25%", "at 50%", "at 75%", "first report after a resume"]
    rows = [[str(number), *run.row] for number, run in enumerate(runs, 1)]
    whole = [run for run in runs if run.error_after_resume() is None]
    medians = [statistics.median(abs(run.error(share)) for run in whole) for share in SHARES]
    rows.append(["", "median, without sign", "", *(f"{error:.1%}" for error in medians), ""])
    return "\n\n".join(
        [
            "## The estimated completion time",
            f"`python -m benchmarks.completion_time --runs {len(whole)} --write` on {machine()}; load average "
            f"{os.getloadavg()[0]:.0f}. Each row is a run of a tiny Qwen2.5-VL from the start of the process to its "
            "end: data set, model, training with evaluations and checkpoints, export, verification. The error is the "
            "expected end minus the real one, as a share of the whole duration.",
            table(header, rows),
        ]
    )


if __name__ == "__main__":
    main()
