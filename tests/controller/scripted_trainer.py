"""A trainer without torch: it prints the event lines of the real one, and ends as its environment asks.

With the argument `preflight` it is a preflight: PREFLIGHT_EXIT_CODE (0), PREFLIGHT_SECONDS (0), MIN_GIB (1) of its
estimate. Else its environment is STEPS (20), STEP_SECONDS (0.1), SAVE_EVERY (5), EXIT_CODE (0) with FAIL_AT_STEP (its
last step), SILENT (no outcome), STOP_SECONDS (0) for its last checkpoint, ALLOCATE_MIB (0) of memory, HANG_AT_STEP
(0: nowhere), at which the first pod, which has no checkpoint to resume from, waits for a signal. It works in its
working directory, as the real one: a checkpoint in `models/NAME/checkpoint.json`, the wish to stop in
`podinfo/annotations`, the outcome in `termination-log`.
"""

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from model_garden.contract.memory_estimate import Estimate, Part
from model_garden.contract.names import ANNOTATION_STOP, CONFIG_ENV, POD_ANNOTATIONS, TERMINATION_LOG
from model_garden.contract.progress import (
    CheckpointEvent,
    DatasetEvent,
    Event,
    Outcome,
    ProgressEvent,
    ResumedEvent,
    StageEvent,
    WarningEvent,
    event_line,
    termination_message,
)
from model_garden.contract.status import DatasetStatus, OutputStatus, Progress
from model_garden.contract.time import timestamp
from model_garden.contract.trainer_config import parse_config

STEPS = int(os.environ.get("STEPS", "20"))
STEP_SECONDS = float(os.environ.get("STEP_SECONDS", "0.1"))
SAVE_EVERY = int(os.environ.get("SAVE_EVERY", "5"))
EXIT_CODE = int(os.environ.get("EXIT_CODE", "0"))
ALLOCATE_MIB = int(os.environ.get("ALLOCATE_MIB", "0"))
FAIL_AT_STEP = int(os.environ.get("FAIL_AT_STEP", str(STEPS)))
HANG_AT_STEP = int(os.environ.get("HANG_AT_STEP", "0"))


class Stop(Exception):
    """SIGTERM came."""


def report(event: Event) -> None:
    if isinstance(event, StageEvent | WarningEvent):
        event = event.model_copy(update={"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    print(event_line(event), flush=True)


def end(outcome: Outcome) -> None:
    if "SILENT" not in os.environ:
        Path(TERMINATION_LOG).write_text(termination_message(outcome))
    sys.exit(outcome.exit_code)


def progress(step: int) -> Progress:
    left = timedelta(seconds=(STEPS - step) * STEP_SECONDS)
    return Progress(
        step=step, total_steps=STEPS, percent=100 * step / STEPS, loss=4.0 / (step + 1), learning_rate=1e-4,
        estimated_completion_time=timestamp(datetime.now(UTC) + left), last_report_time=timestamp(),
    )  # fmt: skip


def train(folder: Path) -> None:
    checkpoint = folder / "checkpoint.json"
    step = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
    report(StageEvent(stage="dataset"))
    report(DatasetEvent(dataset=DatasetStatus(rows=10, images=10, measured_by="Trainer")))
    if step:
        report(ResumedEvent(step=step))
    report(StageEvent(stage="training"))
    print("a line for people", flush=True)
    len(b"x" * (ALLOCATE_MIB << 20))
    first, stopped_early = not step, False
    try:
        while step < STEPS and not stopped_early:
            time.sleep(STEP_SECONDS)
            step += 1
            report(ProgressEvent(progress=progress(step)))
            if step % SAVE_EVERY == 0:
                checkpoint.write_text(json.dumps(step))
                report(CheckpointEvent(step=step))
            if EXIT_CODE and step == FAIL_AT_STEP:
                print("Traceback: scripted failure", flush=True)
                end(
                    Outcome(
                        result="Failed", exit_code=EXIT_CODE, message="it was asked to fail", progress=progress(step)
                    )
                )
            while first and step == HANG_AT_STEP:
                time.sleep(STEP_SECONDS)  # signal.pause() would miss a signal that comes just before it
            stopped_early = stop_asked()
    except Stop:
        time.sleep(float(os.environ.get("STOP_SECONDS", "0")))
        checkpoint.write_text(json.dumps(step))
        report(CheckpointEvent(step=step))
        end(Outcome(result="Stopped", exit_code=143, progress=progress(step), checkpoint_step=step))
    output = OutputStatus(path=str(folder), adapter_path=str(folder / "adapter"), trained_steps=step, verified=True)
    end(Outcome(result="Succeeded", exit_code=0, stopped_early=stopped_early, output=output, progress=progress(step)))


def preflight() -> None:
    report(StageEvent(stage="model", detail="fetching 1 of 2 GiB"))
    time.sleep(float(os.environ.get("PREFLIGHT_SECONDS", "0")))
    if code := int(os.environ.get("PREFLIGHT_EXIT_CODE", "0")):
        end(Outcome(result="Failed", exit_code=code, message="rows.jsonl row 7: no answer"))
    report(DatasetEvent(dataset=DatasetStatus(rows=10, measured_by="Preflight")))
    least = float(os.environ.get("MIN_GIB", "1"))
    weights = Part(name="weights", size_gib=least, min_gib=least, max_gib=least, detail="scripted")
    estimate = Estimate(
        memory="GPU", parts=[weights], total_gib=least, min_gib=least, max_gib=least, reserved_gib=least,
        smallest_gpu=24, parameters=1, trained_parameters=1, batch_size=1, tokens_per_row=1, image_tokens_per_row=0,
        assumptions=[],
    )  # fmt: skip
    end(Outcome(result="Succeeded", exit_code=0, estimate=estimate))


def stop_asked() -> bool:
    annotations = Path(POD_ANNOTATIONS)
    return annotations.exists() and f'{ANNOTATION_STOP}="save"' in annotations.read_text()


def on_sigterm(*_: object) -> None:
    raise Stop


if __name__ == "__main__":
    if sys.argv[1:] == ["preflight"]:
        preflight()
    signal.signal(signal.SIGTERM, on_sigterm)
    config = parse_config(os.environ[CONFIG_ENV])
    folder = Path("models") / config.name
    folder.mkdir(parents=True, exist_ok=True)
    train(folder)
