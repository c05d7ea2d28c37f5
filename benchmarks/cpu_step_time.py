"""Seconds a step on a CPU: our loop, packed and not, beside plain TRL's SFTTrainer, on tiny models and the same rows.

    OMP_NUM_THREADS=1 python -m benchmarks.cpu_step_time [--steps 12] [--rounds 3] [--write]

Tiny models make visible what surrounds the arithmetic: rendering, tokenizing, collating, the loop itself. The
contestants take turns in one process and are compared by the CPU time of a step, which other load on the machine
changes least; medians are printed.
Then the time from the start of a trainer's process to its first step, beside the bare imports. ``--write`` puts it all
into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.sections import machine, table, write_section
from model_garden.contract.defaults import effective_spec
from model_garden.contract.names import CONFIG_ENV
from model_garden.contract.progress import ProgressEvent, StageEvent, parse_event
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden.contract.trainer_config import TrainerConfig

WARM_UP = 2
PICTURES = ((56, 56), (84, 56), (112, 84), (112, 112), (168, 112), (224, 224))
IMPORTS = "import torch, transformers, peft, accelerate, PIL.Image; from transformers import Trainer, AutoProcessor"


@dataclass(frozen=True)
class Row:
    """A question, its answer, and for a vision model the path of its picture."""

    question: str
    answer: str
    image: str | None = None


@dataclass(frozen=True)
class Times:
    """Seconds of wall clock and of this process's CPU for each step after the warm-up, and seconds before the first."""

    wall: list[float]
    cpu: list[float]
    before: float


# The rows


def text_prompts(count: int) -> list[Row]:
    """Questions and answers of mixed length: most short, some many times as long."""
    from model_garden.datasets.samples import text_rows

    rng = random.Random("text")
    rows = []
    for row in text_rows(count):
        *before, answer = (message["content"] for message in row["messages"])
        rows.append(Row("\n".join(before), " ".join([answer] * _repeats(rng))))
    return rows


def vision_prompts(count: int, folder: Path) -> list[Row]:
    """The same about pictures of a few sizes, which are written to ``folder``."""
    from model_garden.datasets.samples import draw, vision_scenes

    rng = random.Random("vision")
    rows = []
    for number, (scene, (question, answer)) in enumerate(vision_scenes(count)):
        path = folder / f"{number:04d}.png"
        draw(scene).resize(rng.choice(PICTURES)).save(path)
        rows.append(Row(question, " ".join([answer(scene)] * _repeats(rng)), str(path)))
    return rows


def _repeats(rng: random.Random) -> int:
    """How often an answer is said: mostly once, one in twenty times seven times or more."""
    return max(1, round(rng.lognormvariate(0, 1.2)))


def job(model: Path, vision: bool, steps: int, folder: Path) -> EffectiveSpec:
    """The project's defaults for a CPU: effective batch 8 (text 2 x 4, vision 1 x 8), LoRA r 16, float32."""
    given = {
        "baseModel": str(model),
        "datasetPath": "rows.jsonl",
        "isVision": vision,
        "outputDir": str(folder),
        "hyperparameters": {"maxSteps": steps},
    }
    return effective_spec(TrainingJobSpec.model_validate(given), "benchmark", local_gpus=0)


# The contestants


def stopwatch() -> Any:
    """A callback that notes both clocks when training begins and at the end of each step."""
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        def __init__(self) -> None:
            self.notes: list[tuple[float, float]] = []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.notes.append((time.perf_counter(), time.process_time()))

        on_step_end = on_train_begin

        def times(self, before: float) -> Times:
            steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(self.notes)][WARM_UP:]
            return Times([wall for wall, _ in steps], [cpu for _, cpu in steps], before)

    return Stopwatch()


def ours(spec: EffectiveSpec, rows: list[Row], *, packed: bool = False) -> Times:
    """Our loop, set up as a run sets it up."""
    from transformers import set_seed

    from model_garden_trainer.batches.packing import PackedSteps
    from model_garden_trainer.engine.arguments import arguments
    from model_garden_trainer.methods import sft
    from model_garden_trainer.models import auto_classes
    from model_garden_trainer.models.backends import transformers as backend

    began = time.perf_counter()
    h = spec.hyperparameters
    folder = Path(spec.base_model)
    encoder = auto_classes.collator(spec, folder)
    set_seed(h.seed)
    model = backend.add_lora(backend.load_model(spec, folder), spec)
    batch, accumulation = h.batch_size, h.gradient_accumulation_steps
    steps = None
    if packed:
        pad, capacity = encoder.tokenizer.pad_token_id, h.max_seq_length
        steps = PackedSteps(encoder, capacity=capacity, rows=batch, pad_token_id=pad, config=model.config)
        batch, accumulation = batch * accumulation, 1
    settings = sft.settings(
        **arguments(
            h,
            checkpoints=f"{spec.output_dir}",
            evaluated=False,
            micro_batch=batch,
            eval_batch=1,
            accumulation=accumulation,
            workers=0,
        )
    )
    settings.save_strategy = "no"
    watch = stopwatch()
    examples = [_example(row, number) for number, row in enumerate(rows, 1)]
    trainer_class = sft.VisionLanguageTrainer if spec.vision else sft.TextTrainer
    loop = trainer_class(
        model=model,
        encoder=encoder,
        training=examples,
        packed=steps,
        model_has_own_loss=False,
        health=spec.health,
        report=lambda _: None,
        args=settings,
        callbacks=[watch],
    )
    before = time.perf_counter() - began
    with loop.without_walks():
        loop.train()
    return watch.times(before)  # type: ignore[no-any-return]


def packed(spec: EffectiveSpec, rows: list[Row]) -> Times:
    """Our loop with ``packing: true``."""
    return ours(spec, rows, packed=True)


def _example(row: Row, number: int) -> Any:
    from model_garden.datasets.example import Example, ImageRef, Message
    from model_garden.datasets.origin import Origin

    question = (ImageRef(Path(row.image)), row.question) if row.image else (row.question,)
    turns = (Message("user", question), Message("assistant", (row.answer,)))
    return Example("chat", turns, Origin("rows.jsonl", number))


def trl(spec: EffectiveSpec, rows: list[Row]) -> Times:
    """TRL's SFTTrainer with the same settings: prompt and completion columns, loss on the completion alone."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer

    began = time.perf_counter()
    h, vision = spec.hyperparameters, spec.vision
    set_seed(h.seed)
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    model = auto.from_pretrained(spec.base_model, dtype="float32", attn_implementation="sdpa")
    watch = stopwatch()
    targets = r".*language_model.*(q|k|v|o|gate|up|down)_proj" if vision else "all-linear"
    trainer = SFTTrainer(
        model=model,
        processing_class=(AutoProcessor if vision else AutoTokenizer).from_pretrained(spec.base_model),
        train_dataset=_trl_rows(rows, Dataset),
        peft_config=LoraConfig(r=16, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"),
        args=SFTConfig(
            output_dir=f"{spec.output_dir}",
            max_steps=h.max_steps,
            per_device_train_batch_size=h.batch_size,
            gradient_accumulation_steps=h.gradient_accumulation_steps,
            learning_rate=h.learning_rate,
            lr_scheduler_type=h.lr_scheduler_type,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            max_length=None,
            remove_unused_columns=not vision,
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            optim="adamw_torch",
            seed=h.seed,
            disable_tqdm=True,
        ),
        callbacks=[watch],
    )
    before = time.perf_counter() - began
    trainer.train()
    return watch.times(before)  # type: ignore[no-any-return]


def _trl_rows(rows: list[Row], dataset: Any) -> Any:
    """A data set of prompt and completion; pictures are opened when a row is taken."""
    from PIL import Image

    def turns(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        said: dict[str, list[Any]] = {
            "prompt": [[{"role": "user", "content": question}] for question in batch["question"]],
            "completion": [[{"role": "assistant", "content": answer}] for answer in batch["answer"]],
        }
        if batch["image"][0] is not None:
            said["images"] = [[Image.open(path).convert("RGB")] for path in batch["image"]]
        return said

    plain = dataset.from_list([vars(row) for row in rows])
    if rows[0].image:
        return plain.with_transform(turns)
    return plain.map(turns, batched=True, remove_columns=plain.column_names)


# The figures

CONTESTANTS: dict[str, Callable[[EffectiveSpec, list[Row]], Times]] = {
    "TRL SFTTrainer": trl,
    "ours": ours,
    "ours, packed": packed,
}


def compare(model: Path, rows: list[Row], steps: int, rounds: int, folder: Path) -> str:
    """All contestants in turn, ``rounds`` times; the table of their medians."""
    spec = job(model, rows[0].image is not None, steps + WARM_UP, folder)
    found: dict[str, list[Times]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name, contestant in CONTESTANTS.items():
            found[name].append(contestant(spec, rows))
            print(f"{model.name}, round {number + 1}: {name}", file=sys.stderr)
    h = spec.hyperparameters
    effective_batch = (h.batch_size) * (h.gradient_accumulation_steps)
    medians = {name: _medians(times) for name, times in found.items()}
    base = medians["TRL SFTTrainer"][1]
    return table(
        ["", "s/step", "CPU s/step", "samples per CPU second", "times TRL's", "s before the first step"],
        [
            [name, f"{wall:.4f}", f"{cpu:.4f}", f"{effective_batch / cpu:.0f}", f"{base / cpu:.2f}", f"{before:.2f}"]
            for name, (wall, cpu, before) in medians.items()
        ],
    )


def _medians(times: list[Times]) -> tuple[float, float, float]:
    """Median step by wall clock and by CPU over all rounds, and the median of what came before the first step."""
    wall = statistics.median(seconds for one in times for seconds in one.wall)
    cpu = statistics.median(seconds for one in times for seconds in one.cpu)
    return wall, cpu, statistics.median(one.before for one in times)


def start_up(model: Path, folder: Path, rounds: int) -> str:
    """Seconds from the start of a trainer's process to the end of its first step, and what the bare imports take."""
    from model_garden.datasets.samples import create_vision_samples

    rows = create_vision_samples(folder / "rows.jsonl", 8)
    parts: list[dict[str, float]] = []
    for number in range(rounds):
        spec = job(model, True, 1, folder / f"start-{number}").model_copy(update={"dataset_path": str(rows)})
        parts.append(
            {"bare imports": _timed_imports(), **_timed_run(TrainerConfig(name="benchmark", spec=spec), folder)}
        )
    names = list(parts[0])
    medians = {name: statistics.median(part[name] for part in parts) for name in names}
    return table(["until", "s after the start"], [[name, f"{seconds:.2f}"] for name, seconds in medians.items()])


def _timed_imports() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - began


def _timed_run(config: TrainerConfig, folder: Path) -> dict[str, float]:
    environment = os.environ | {CONFIG_ENV: config.model_dump_json(by_alias=True, exclude_none=True)}
    seen: dict[str, float] = {}
    began = time.perf_counter()
    command = [sys.executable, "-m", "model_garden_trainer"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        for line in process.stdout or ():
            event = parse_event(line)
            if isinstance(event, StageEvent):
                seen.setdefault(f"stage {event.stage}", time.perf_counter() - began)
            if isinstance(event, ProgressEvent):
                seen.setdefault("first step", time.perf_counter() - began)
    if process.returncode or "first step" not in seen:
        raise SystemExit((folder / "log").read_text())
    return {name: seconds for name, seconds in seen.items() if seconds <= seen["first step"]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_step_time", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="steps that count, after a warm-up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    options = parser.parse_args()
    from testing.tiny_models import make_tiny_model

    count = 8 * (options.steps + WARM_UP)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        text, vision = (make_tiny_model(kind, folder / kind) for kind in ("qwen2", "qwen2_5_vl"))
        tables = [
            (
                "Text: tiny Qwen2, batch 2 x 4",
                compare(text, text_prompts(count), options.steps, options.rounds, folder),
            ),
            (
                "Vision: tiny Qwen2.5-VL, batch 1 x 8",
                compare(vision, vision_prompts(count, folder), options.steps, options.rounds, folder),
            ),
            (
                "From the start of the process to the first step, tiny Qwen2.5-VL",
                start_up(vision, folder, options.rounds),
            ),
        ]
    page = "\n\n".join(f"### {title}\n\n{content}" for title, content in tables)
    print(page)
    if options.write:
        write_section("cpu_step_time", f"{_introduction(options.steps, options.rounds)}\n\n{page}")


def _introduction(steps: int, rounds: int) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    return (
        "## A step on a CPU, beside plain TRL\n\n"
        f"`python -m benchmarks.cpu_step_time --steps {steps} --rounds {rounds} --write` on {machine()}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}; {versions}. Medians of {rounds} rounds of "
        f"{steps} steps of 8 samples of mixed length, LoRA r 16, float32. The models are tiny, so the "
        "figures compare overhead, not computation. "
        f"Load average {os.getloadavg()[0]:.0f}. TRL renders and tokenizes all text rows before the first step; this "
        "project does it during training. Packed and unpacked steps take the same samples and give the same losses."
    )


if __name__ == "__main__":
    main()
