"""The process of a lane: runs its sections one after the other until one fails.

    python -m tools.gpu_check.worker        reads the sections as JSON from standard input

Standard output holds a line of JSON when a section begins and one when it has ended; all else goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.gpu_check.plan import Section

PARTS = ("data", "forward", "backward", "optimizer")


def main() -> None:
    """Run the sections of standard input in the working directory."""
    request = json.load(sys.stdin)
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries and their processes print is for the log
    sys.stdout = sys.stderr
    from model_garden_trainer.__main__ import set_environment

    if request["sections"][0]["kind"] != "plain":  # which is measured as its users run it
        set_environment(Path.cwd())
    for entry in request["sections"]:
        section = Section(**entry)
        print(json.dumps({"begin": section.name}), file=lines)
        began = time.perf_counter()
        try:
            found, wrong = _run(section, quick=request["quick"], out=Path(request["out"]))
        except BaseException as error:
            traceback.print_exc()
            found, wrong = {}, [f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"]
        seconds = round(time.perf_counter() - began, 2)
        print(json.dumps({"end": section.name, "seconds": seconds, "found": found, "problems": wrong}), file=lines)
        if wrong:
            break  # what it left behind could fail the next one: that gets a process of its own
    sys.stderr.flush()
    os._exit(0)  # no library's thread may hold the process


def _run(section: Section, *, quick: bool, out: Path) -> tuple[dict[str, Any], list[str]]:
    """What a section found, and what is wrong with it."""
    if section.kind == "make":
        from tools.gpu_check.models import make

        found = make(section.spec["make"], quick=quick)
        return (found | machine() if section.spec["make"] == "small" else found), []
    if section.needs:
        from model_garden.contract.spec import TrainingJobSpec

        if section.needs not in TrainingJobSpec.model_fields:
            return {"skipped": f"the spec has no field {section.needs}"}, []
    spec = effective(section, quick=quick)
    if section.spec["backend"] == "unsloth" and quick:
        from testing import unsloth_on_cpu  # noqa: F401
    from model_garden_trainer.models import backends

    backends.import_first(spec)
    if section.kind == "plain":
        from tools.gpu_check.plain import train

        return train(spec), []
    if section.kind == "parts":
        from tools.gpu_check.parts import measure

        return measure(spec), []
    from tools.gpu_check.checks import problems

    found = _trained(section, spec, out)
    return found, problems(section, found)


def effective(section: Section, *, quick: bool) -> Any:
    """The section's job with every default. Without a GPU no spec may ask for Unsloth, which ``_run`` then forces."""
    from model_garden.contract.defaults import effective_spec
    from model_garden.contract.spec import TrainingJobSpec

    given = section.spec | ({"backend": "auto"} if quick else {})
    return effective_spec(TrainingJobSpec.model_validate(given), slug(section.name), local_gpus=0 if quick else 1)


def slug(name: str) -> str:
    """The name of a section as part of a path."""
    return "".join(c if c.isalnum() else "-" for c in name)


def machine() -> dict[str, Any]:
    """Versions and the GPU."""
    import subprocess
    from importlib.metadata import PackageNotFoundError, version

    import torch

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    packages = (
        "torch",
        "transformers",
        "trl",
        "peft",
        "accelerate",
        "bitsandbytes",
        "unsloth",
        "unsloth_zoo",
        "triton",
    )
    found: dict[str, Any] = {"python": sys.version.split()[0], "cpus": os.cpu_count()}
    found |= {package: installed(package) for package in packages}
    if not torch.cuda.is_available():
        return found | {"gpu": None}
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found | {
        "gpu": torch.cuda.get_device_name(),
        "gpuGiB": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": driver.stdout.strip(),
    }


def _trained(section: Section, spec: Any, out: Path) -> dict[str, Any]:
    """The figures of a whole run of the trainer, from checking the rows to saving; stopped and resumed if asked."""
    from model_garden.contract.trainer_config import TrainerConfig

    config = TrainerConfig(name=Path(spec.output_dir).name, spec=spec)
    noted = _Notes(section, out)
    stopped = _attempt(config, section, noted, stop_after=section.stop_after) if section.stop_after else None
    outcome = _attempt(config, replace(section, stop_after=None), noted)
    output = Path(spec.output_dir)
    record = json.loads((output / "training_config.json").read_text())
    changed, adapters = _changed_adapters(output)
    return {
        "backend": record["backend"]["name"],
        "quantization": spec.quantization,
        "result": outcome.result,
        "batch": f"{record['batch']['microBatch']} x {record['batch']['accumulation']}",
        "packing": spec.hyperparameters.packing,
        "steps": list(noted.steps.values()),
        "evalLosses": noted.eval_losses,
        "stoppedAt": stopped.checkpoint_step if stopped else None,
        "resumedAt": noted.resumed,
        "warnings": noted.warnings,
        "changedAdapters": changed,
        "adapters": adapters,
        "verification": {
            key: record["verification"].get(key) for key in ("row", "answer", "difference") if section.verify
        },
        "memory": noted.peaks,
        "leftOverGiB": _left_over(),
        "trace": noted.trace,
    }


class _Notes:
    """What a run reported, and the memory of each of its stages."""

    def __init__(self, section: Section, out: Path) -> None:
        self.steps: dict[int, dict[str, float]] = {}
        self.eval_losses: list[float] = []
        self.resumed: list[int] = []
        self.warnings: list[str] = []
        self.peaks: dict[str, dict[str, float]] = {}
        self.trace: dict[str, Any] | None = None
        self.on_step: Callable[[int], None] = lambda _: None
        self._section, self._out, self._stage = section, out, "start"
        self._profiler: Any = None
        self._last = section.spec["hyperparameters"]["maxSteps"]

    def __call__(self, event: Any) -> None:
        """Take note of an event of the trainer."""
        from model_garden.contract.progress import ProgressEvent, ResumedEvent, StageEvent, WarningEvent

        if isinstance(event, StageEvent) and event.stage in ("model", "training", "saving", "exporting"):
            from tools.gpu_check.parts import take_peak

            self.peaks.setdefault(self._stage, take_peak())
            self._stage = event.stage
        elif isinstance(event, WarningEvent):
            self.warnings.append(event.message)
        elif isinstance(event, ResumedEvent):
            self.resumed.append(event.step)
        elif isinstance(event, ProgressEvent):
            self._progress(event.progress.to_dict())

    def _progress(self, figures: dict[str, Any]) -> None:
        step = figures["step"]
        if "evalLoss" in figures:
            self.eval_losses.append(figures["evalLoss"])
        if "secondsPerStep" not in figures or step in self.steps:
            return
        names = ("step", "loss", "gradNorm", "secondsPerStep", "gpuMemoryGiB", *(f"{part}Seconds" for part in PARTS))
        self.steps[step] = {name: figures[name] for name in names if name in figures}
        self.on_step(step)
        if self._section.traced:
            self._record(step)

    def _record(self, step: int) -> None:
        """Record the last step with torch's profiler."""
        from tools.gpu_check.parts import Recording

        if step == self._last - 1:
            self._profiler = Recording()
        elif step == self._last and self._profiler:
            file = self._out / f"trace-{slug(self._section.name)}.json.gz"
            self.trace, self._profiler = self._profiler.stop(file), None


def _attempt(config: Any, section: Section, noted: _Notes, stop_after: int | None = None) -> Any:
    """The outcome of a run; with ``stop_after`` the Stopped with which it ends."""
    from model_garden_trainer import run
    from model_garden_trainer.engine.stopping import StopRequests
    from model_garden_trainer.engine.watchdog import Watchdog
    from model_garden_trainer.errors import Stopped
    from model_garden_trainer.exports import outputs

    requests = StopRequests()

    def on_step(step: int) -> None:
        requests.stop = step == stop_after
        if section.gpu_gib and step == section.scarce_from:
            _may_take(section.gpu_gib)

    noted.on_step = on_step
    if section.gpu_gib and not section.scarce_from:
        _may_take(section.gpu_gib)
    verify = outputs.verify if section.verify else lambda *_: {"row": "not asked", "answer": ""}
    watchdog = Watchdog(section.limit, section.limit, lambda message: print(message, file=sys.stderr, flush=True))
    try:
        outcome = run.train(config, noted, requests, watchdog, verify=verify)
    except Stopped as stopped:
        if stop_after is None:
            raise
        return stopped.with_traceback(None)  # its frames hold the model
    finally:
        _may_take(None)
    if stop_after is not None:
        raise RuntimeError(f"the run was asked to stop after step {stop_after}, and ended as {outcome.result}")
    return outcome


def _may_take(gib: float | None) -> None:
    """Limit how much of the GPU's memory this process takes; None takes the limit away."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(1.0 if gib is None else gib * 2**30 / total)


def _changed_adapters(output: Path) -> tuple[int, int]:
    """How many lora_B matrices differ from 0, where all start, and how many there are."""
    from safetensors.torch import load_file

    weights = load_file(output / "adapter_model.safetensors")
    found = [bool(weight.any()) for name, weight in weights.items() if "lora_B" in name]
    return sum(found), len(found)


def _left_over() -> float | None:
    """GiB of the GPU that are still allocated."""
    import torch

    gc.collect()
    return torch.cuda.memory_allocated() / 2**30 if torch.cuda.is_available() else None


if __name__ == "__main__":
    main()
