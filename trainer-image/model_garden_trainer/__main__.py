"""The process: environment, signals, events on stdout, the outcome in the termination message, exit codes.

    MODEL_GARDEN_CONFIG='{"name": …, "spec": {…}}' python -m model_garden_trainer [preflight]

Everything is relative to the working directory, which is ``/workspace`` in a pod.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from model_garden.contract.names import CONFIG_ENV, TERMINATION_ENV, TERMINATION_LOG
from model_garden.contract.progress import (
    CheckpointEvent,
    Event,
    Outcome,
    ProgressEvent,
    ResumedEvent,
    termination_message,
)
from model_garden.contract.reasons import EXIT_CODES, STOPPED, WORKER_LOST
from model_garden.contract.status import Progress
from model_garden.contract.trainer_config import TrainerConfig, parse_config
from model_garden_trainer import fetched
from model_garden_trainer.batches import splits
from model_garden_trainer.distributed import launch
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped, TrainingError, record_traceback
from model_garden_trainer.events import EventPrinter, Report, log
from model_garden_trainer.models import base_adapter, base_model

_PR_SET_PDEATHSIG = 1
_CACHES = {
    "HF_HOME": "huggingface",
    "TORCH_HOME": "torch",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "UNSLOTH_COMPILE_LOCATION": "unsloth",
    "XDG_CACHE_HOME": "xdg",
    "MPLCONFIGDIR": "matplotlib",
}
_SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "UNSLOTH_DISABLE_CPU_FALLBACK": "1",
    "UNSLOTH_AUTO_INSTALL": "0",
    "TRANSFORMERS_DISABLE_TORCH_CHECK": "1",
    "UNSLOTH_FORCE_SINGLE_COMPILE_WORKER": "0",
    # cuDNN plans attention anew for each shape of a batch, which took 0.1 to 0.5 s on an H100, and shapes vary
    "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1",
    # without it, batches of varying shape leave memory that no later batch fits into
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}


class EventRecorder:
    """Passes events on and keeps what the outcome of a failed run reports."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.progress: Progress | None = None
        self.checkpoint: int | None = None

    def __call__(self, event: Event) -> None:
        """Remember ``event`` and pass it on."""
        if isinstance(event, ProgressEvent):
            self.progress = event.progress
        elif isinstance(event, (CheckpointEvent, ResumedEvent)):
            self.checkpoint = event.step
        self._report(event)


def main() -> NoReturn:
    """Run the job of the environment's config, and exit with the exit code of its outcome."""
    if sys.argv[1:2] == ["verify"]:
        _verify(sys.argv[2])
    if sys.argv[1:2] == ["chat"]:
        _chat(sys.argv[2])
    if sys.argv[1:2] == ["track"]:
        _track(sys.argv[2])
    if "RANK" in os.environ:
        _die_with_parent()
    report = EventRecorder(EventPrinter(sys.stdout) if os.environ.get("RANK", "0") == "0" else lambda _: None)
    sys.stdout = sys.stderr  # what libraries print is for people; stdout holds events alone
    requests = StopRequests()
    requests.on_interrupt = lambda: _end(_stopped(report))
    requests.listen()
    try:
        set_environment(Path.cwd())
        config = _config()
        outcome = _preflight(config, report) if sys.argv[1:2] == ["preflight"] else _run(config, report, requests)
    except TrainingError as error:
        outcome = _failed(error, report)
    except Stopped as stopped:
        report.checkpoint = stopped.checkpoint_step or report.checkpoint
        outcome = _stopped(report, by_peer=stopped.by_peer)
    except Exception as error:
        outcome = _failed(_classify(error, record_traceback(error)), report)
    _end(outcome)


def set_environment(folder: Path) -> None:
    """Settings and caches that libraries read when they are imported; what is set already stays.

    Caches go below ``folder``/cache where there is one, as in a pod, whose root is read-only.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    cache = folder / "cache"
    if cache.is_dir():
        for name, place in _CACHES.items():
            os.environ.setdefault(name, str(cache / place))


def _preflight(config: TrainerConfig, report: Report) -> Outcome:
    from model_garden_trainer.preflight import preflight

    return preflight(config, report)


def _run(config: TrainerConfig, report: EventRecorder, requests: StopRequests) -> Outcome:
    if "RANK" not in os.environ:
        config = fetched.with_notes(config)
        fetched.fetch_datasets(config, report)
        splits.fetch_images(config, report)
        base_model.fetch(config, report)
        base_adapter.fetch(config, report)
        fetched.note(config)
        world = launch.world_of(config.spec)
        if world.per_node > 1:
            return launch.run(world)
        if world.size > 1:
            os.environ.update(world.environment(0))
    from model_garden_trainer.engine.watchdog import Watchdog
    from model_garden_trainer.models import backends

    backends.import_first(config.spec)
    from model_garden_trainer.run import train

    health = config.spec.health
    watchdog = Watchdog(
        health.first_step_seconds,
        health.step_seconds,
        lambda message: _end(_failed(TrainingError("StepTimeout", message), report)),
    )
    return train(config, report, requests, watchdog)


def _config() -> TrainerConfig:
    text = os.environ.get(CONFIG_ENV)
    if not text:
        raise TrainingError("InvalidSpec", f"{CONFIG_ENV} is not set; it holds a job's name and spec as JSON")
    try:
        return parse_config(text)
    except ValueError as error:
        raise TrainingError("InvalidSpec", str(error)) from error


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # not on macOS
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _verify(request: str) -> NoReturn:
    _die_with_parent()  # a run that is stopped takes its check along
    for name in launch.RANK_VARIABLES:
        os.environ.pop(name, None)
    try:
        set_environment(Path.cwd())
        from model_garden_trainer import verify

        verify.main(request, _config())
    except TrainingError as error:
        cause, code = str(error), error.exit_code
    except Exception as error:
        cause = f"{type(error).__name__}: {error} ({record_traceback(error)})"
        code = EXIT_CODES["TrainerError"]
    else:
        sys.exit(0)
    print(json.dumps(cause), flush=True)  # on stderr it would stand among the warnings of libraries
    sys.exit(code)


def _chat(request: str) -> NoReturn:
    set_environment(Path.cwd())
    from model_garden_trainer import chat

    try:
        chat.main(request)
    except TrainingError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _track(tracker: str) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C stops the trainer, which ends this process
    set_environment(Path.cwd())
    from model_garden_trainer.trackers import follower

    follower.main(tracker, _config(), os.environ)
    os._exit(0)  # no library's thread may hold the process


def _classify(error: Exception, traceback: str) -> TrainingError:
    """The reason and the message for an unexpected exception; ``traceback`` says where its traceback is."""
    text = str(error)
    if isinstance(error, ModuleNotFoundError):
        return TrainingError(
            "MissingPackages",
            f"the package {error.name} is missing; install those of the extra trainer "
            f"(pip install 'model-garden[trainer]'), or use an image that has them ({traceback})",
        )
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or "can't allocate memory" in text:
        return TrainingError(
            "OutOfMemory",
            f"the smallest batch ran out of memory: {text.splitlines()[0] if text else 'MemoryError'}; lower "
            "hyperparameters.maxSeqLength or imageOptions.maxPixels, use quantization: 4bit, or use a larger GPU",
        )
    if "RANK" in os.environ:
        from model_garden_trainer.distributed import process_group

        if process_group.peer_lost(error):
            why = "another process of the job ended or does not answer; training resumes when all pods run again"
            cause = text.partition("\n")[0].partition(". ")[0] or type(error).__name__
            return TrainingError("WorkerLost", f"{why} ({cause})")
    return TrainingError("TrainerError", f"{type(error).__name__}: {error} ({traceback})")


def _failed(error: TrainingError, report: EventRecorder) -> Outcome:
    log(f"{error.reason}: {error}", everyone=True)
    return Outcome(
        result="Failed",
        exit_code=error.exit_code,
        reason=error.reason,
        message=str(error),
        output=error.output,
        progress=report.progress,
        checkpoint_step=report.checkpoint,
    )


def _stopped(report: EventRecorder, *, by_peer: bool = False) -> Outcome:
    log("stopped; " + (f"step {report.checkpoint} is kept" if report.checkpoint else "nothing was trained yet"))
    return Outcome(
        result="Stopped",
        exit_code=WORKER_LOST if by_peer else STOPPED,
        message="another process of the job was asked to stop" if by_peer else None,
        progress=report.progress,
        checkpoint_step=report.checkpoint,
    )


def _end(outcome: Outcome) -> NoReturn:
    """Leave the outcome where it is looked for and exit at once: no library's thread may hold the process."""
    path = os.environ.get(TERMINATION_ENV) or (TERMINATION_LOG if Path(TERMINATION_LOG).exists() else None)
    if path:
        try:
            Path(path).write_text(termination_message(outcome), encoding="utf-8")
        except OSError as error:
            log(f"{path}: the outcome could not be written: {error}")
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream:
                stream.flush()
        except OSError:
            pass
    os._exit(outcome.exit_code)


if __name__ == "__main__":
    main()
