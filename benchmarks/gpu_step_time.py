"""Seconds a step on a GPU: Qwen2.5-VL-3B's shape, 4-bit, LoRA r 16, ten pictures of 224 x 224, effective batch 8.

    python -m benchmarks.gpu_step_time [--steps 20] [--only unsloth] [--write]     on a machine with a GPU
    python -m benchmarks.gpu_step_time --quick [--steps 3]                         on any: a tiny model, on the CPU

Nothing is downloaded: the model has the real shape and random weights (8 GB in a temporary folder; TMPDIR says where),
a tiny tokenizer and the real vocabulary's size. Each case runs in a process of its own (``gpu_step_case``): the
project's whole run with both backends, its batches taken as asked for, by ``autoBatchSize`` and packed; and TRL's
SFTTrainer with the published settings, batch 1 x 8 in 4-bit. The table has the median step after a warm-up and its
parts, samples and tokens a second, the share of the GPU's peak (``flops`` has the formula), and the peak memory beside
the estimate. A case that fails is told in its row, with its log above; the exit code is 1 then. ``--write`` puts the
table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.flops import Work, peak_flops, step_flops
from benchmarks.gpu_step_case import MODEL, PARTS, ROWS, Exports, Measured
from benchmarks.sections import machine, table, write_section
from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.memory_estimate import RowShape
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden.estimate.estimate import estimate
from model_garden.estimate.model_shape import read_model

EFFECTIVE_BATCH, WARM_UP = 8, 3
NEEDED_GB = 12
AIM = "Aim on one H100: at most 0.1 s a step and 6 GiB. The mission's published figures are 12 s and about 35 GB."
HEADER = ["", "batch", "s/step", *PARTS, "samples/s", "tokens/s", "of peak", "GiB loading", "GiB training", "estimate"]


@dataclass(frozen=True)
class Case:
    """A row of the table: who trains (``ours`` or ``trl``), and what is laid over the job's spec."""

    name: str
    trainer: str
    part: dict[str, Any]


def cases(*, quick: bool) -> list[Case]:
    """Both backends, each with its batches taken in three ways, and plain TRL; without a GPU what runs there."""
    as_asked, fitted = {"autoBatchSize": False}, {"autoBatchSize": True}
    ways = {"1 x 8": as_asked, "autoBatchSize": fitted, "packed": as_asked | {"packing": True}}
    ours = [
        Case(f"{backend}, {way}", "ours", {"backend": backend, "hyperparameters": given})
        for backend in (("transformers",) if quick else ("unsloth", "transformers"))
        for way, given in ways.items()
    ]
    return [*ours, Case("plain TRL, 1 x 8", "trl", {"backend": "transformers", "hyperparameters": as_asked})]


def job(case: Case, folder: Path, steps: int, *, gpu: bool) -> EffectiveSpec:
    """The case's effective spec: the project's defaults but for what the case is about."""
    given = {
        "baseModel": str(folder / MODEL),
        "datasetPath": str(folder / ROWS),
        "isVision": True,
        "outputDir": str(folder / "outputs" / "".join(filter(str.isalnum, case.name))),
        "hyperparameters": {"maxSteps": steps, "saveSteps": steps},
    }
    return effective_spec(TrainingJobSpec.model_validate(merge(given, case.part)), "benchmark", local_gpus=int(gpu))


def row(case: Case, spec: EffectiveSpec, config: Mapping[str, Any], made: Exports, found: Measured) -> list[str]:
    """A case's line of the table."""
    median = {part: statistics.median(step[part] for step in found.steps[WARM_UP:]) for part in ("seconds", *PARTS)}
    seconds = median["seconds"]
    peak = peak_flops(made.gpu or "")
    worth = step_flops(read_model(config), estimate(spec, config).trained_parameters, work(made, config))
    return [
        case.name,
        "packed" if spec.hyperparameters and spec.hyperparameters.packing else found.batch,
        f"{seconds:.3f}",
        *(f"{median[part]:.3f}" for part in PARTS),
        f"{EFFECTIVE_BATCH / seconds:.1f}",
        f"{EFFECTIVE_BATCH * statistics.mean(made.tokens) / seconds:.0f}",
        f"{worth / seconds / peak:.1%}" if peak else "",
        f"{found.loading_gib:.2f}",
        f"{found.training_gib:.2f}",
        f"{estimated_gib(spec, config, made, found):.2f}" if case.trainer == "ours" else "",
    ]


def work(made: Exports, config: Mapping[str, Any]) -> Work:
    """What an average step works on."""
    tokens, trained, pictured = (
        round(EFFECTIVE_BATCH * statistics.mean(each)) for each in (made.tokens, made.trained, made.pictured)
    )
    vision = read_model(config).vision
    return Work(tokens, trained, pictured, pictured * (vision.merge**2 if vision else 0))


def estimated_gib(spec: EffectiveSpec, config: Mapping[str, Any], made: Exports, found: Measured) -> float:
    """The project's estimate for the batch that was taken: what PyTorch reserves of a GPU, without one all memory."""
    h = spec.hyperparameters
    assert h is not None
    taken = h.model_copy(update={"batch_size": h.batch_size if h.packing else int(found.batch.split()[0])})
    longest = RowShape(tokens=max(made.tokens), trained_tokens=max(made.trained), image_tokens=max(made.pictured))
    result = estimate(spec.model_copy(update={"hyperparameters": taken}), config, rows=longest)
    return result.reserved_gib if result.memory == "GPU" else result.total_gib


def run_case(kind: str, request: dict[str, Any], folder: Path, environment: Mapping[str, str]) -> dict[str, Any] | str:
    """What a process of ``gpu_step_case`` found, or the last line that it said before it failed."""
    asked, result, log = folder / "request.json", folder / "result.json", folder / "log"
    asked.write_text(json.dumps(request))
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_step_case", kind, str(asked), str(result)]
    with log.open("w") as said:
        code = subprocess.run(command, cwd=folder, env=environment, stdout=said, stderr=said, check=False).returncode
    if code == 0:
        found: dict[str, Any] = json.loads(result.read_text())
        return found
    lines = log.read_text(errors="replace").strip().splitlines() or [f"exit code {code}, nothing said"]
    print("\n".join(lines[-60:]), file=sys.stderr)
    return lines[-1]


def compare(chosen: list[Case], folder: Path, steps: int, *, quick: bool) -> tuple[str, bool]:
    """Run ``chosen`` one after the other; the section's text, and whether all of them ran."""
    (folder / "cache").mkdir()  # what the libraries compile stays in the folder
    root = str(Path(__file__).parents[1])
    environment = (
        os.environ | {"PYTHONPATH": root, "HF_HUB_OFFLINE": "1"} | ({"CUDA_VISIBLE_DEVICES": ""} if quick else {})
    )
    count = EFFECTIVE_BATCH * (WARM_UP + steps)
    answer = run_case("make", {"count": count, "real": not quick}, folder, environment)
    if isinstance(answer, str):
        sys.exit(f"error: the model could not be made: {answer}")
    made, config = Exports(**answer), json.loads((folder / MODEL / "config.json").read_text())
    rows, failed = [], False
    for case in chosen:
        print(case.name, file=sys.stderr)
        spec = job(case, folder, WARM_UP + steps, gpu=not quick)
        answer = run_case(case.trainer, spec.to_dict(), folder, environment)
        if isinstance(answer, str):
            failed = True
            rows.append([case.name, f"failed: {answer[:200]}".replace("|", "/"), *[""] * (len(HEADER) - 2)])
        else:
            rows.append(row(case, spec, config, made, Measured(**answer)))
    return f"{introduction(made, config, steps)}\n\n{table(HEADER, rows)}", not failed


def introduction(made: Exports, config: Mapping[str, Any], steps: int) -> str:
    """What was measured, on what, and how to read it."""
    packages = ("torch", "transformers", "trl", "peft", "bitsandbytes", "unsloth")
    versions = ", ".join(f"{name} {version(name)}" for name in packages if find_spec(name))
    model, each = read_model(config), work(made, config)
    kind, memory = ("4-bit", "what PyTorch reserved of the GPU") if made.gpu else ("float32", "resident memory")
    return (
        f"{made.gpu or 'No GPU'}; {machine()}; {versions}. A model of {model.parameters:,} random weights, "
        f"{kind}, LoRA r 16; a step is {EFFECTIVE_BATCH} samples: {each.tokens} tokens, {each.pictured} of them "
        f"pictures' and {each.trained} trained. Medians of {steps} steps after {WARM_UP}, in seconds; memory is "
        f"{memory} at its peak, and the estimate of a packed job takes its rows to be full. {AIM}"
    )


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_step_time", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="steps that count, after a warm-up")
    parser.add_argument("--only", default="", metavar="WORD", help="cases whose name holds WORD, such as unsloth")
    parser.add_argument("--quick", action="store_true", help="a tiny model on the CPU: shows that the script works")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    chosen = [case for case in cases(quick=options.quick) if options.only in case.name]
    problem = refusal(options, chosen)
    if problem:
        parser.error(problem)  # exit code 2
    with tempfile.TemporaryDirectory(prefix="gpu-step-time-") as scratch:
        free = shutil.disk_usage(scratch).free / 1e9
        if not options.quick and free < NEEDED_GB:
            parser.error(f"{scratch} has {free:.0f} GB free, and {NEEDED_GB} are needed; set TMPDIR to another folder")
        content, complete = compare(chosen, Path(scratch), options.steps, quick=options.quick)
    print(content)
    if options.write:
        write_section("gpu_step_time", f"## GPU step time\n\n`python -m benchmarks.gpu_step_time`. {content}")
    sys.exit(0 if complete else 1)


def refusal(options: argparse.Namespace, chosen: list[Case]) -> str | None:
    """Why it cannot be measured, with the fix; None where it can."""
    if options.steps < 1:
        return f"--steps {options.steps}: at least 1"
    if not chosen:
        return f"--only {options.only}: no case has that in its name; there are {'; '.join(_names(options.quick))}"
    if options.quick and options.write:
        return "--quick shows that the script works; its figures say nothing of a GPU and are not written"
    if options.quick:
        return None
    import torch

    if not torch.cuda.is_available():
        return "no GPU: PyTorch sees no CUDA device here. Run it on a machine with one, or --quick to try the script"
    missing = [name for name in ("bitsandbytes", "unsloth") if find_spec(name) is None]
    return f"{' and '.join(missing)} missing: pip install '.[trainer-gpu]'" if missing else None


def _names(quick: bool) -> list[str]:
    return [case.name for case in cases(quick=quick)]


if __name__ == "__main__":
    main()
