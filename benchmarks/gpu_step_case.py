"""What each process of ``benchmarks.gpu_step_time`` does: write the model and the rows, or train one case on them.

python -m benchmarks.gpu_step_case make REQUEST.json RESULT.json
python -m benchmarks.gpu_step_case ours|trl SPEC.json RESULT.json
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.hyperparameters import EffectiveHyperparameters
from model_garden.contract.memory_estimate import GIB
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden.contract.trainer_config import TrainerConfig
from testing.model_configs import QWEN2_5_VL_3B

DATA = Path(__file__).parents[1] / "data" / "vision_test_dataset.jsonl"
MODEL, ROWS = "model", "data/rows.jsonl"
PARTS = ("data", "forward", "backward", "optimizer")


@dataclass(frozen=True)
class Exports:
    """What there is to train on: the GPU's name (None without one), and of each different sample its tokens, those that
    carry loss, and those that stand for its picture."""

    gpu: str | None
    tokens: list[int]
    trained: list[int]
    pictured: list[int]


@dataclass(frozen=True)
class Measured:
    """What a case found: seconds of each step (``seconds`` in all, and those of ``PARTS``), GiB at most while loading
    and while training, and how a step's samples were taken."""

    steps: list[dict[str, float]]
    loading_gib: float
    training_gib: float
    batch: str


# The model and the rows


def make(folder: Path, count: int, *, real: bool) -> Exports:
    """Write the model and ``count`` rows: the ten pictures again and again, so that all fill whole steps of one epoch.

    Args:
        folder: gets ``MODEL`` and ``ROWS``.
        count: rows.
        real: Qwen2.5-VL-3B's shape in place of the tiny one.
    """
    import torch

    from model_garden_trainer.batches.collator import IGNORED
    from model_garden_trainer.batches.splits import open_data
    from model_garden_trainer.models.families import trainer_for
    from testing.tiny_models import make_tiny_model

    model = make_tiny_model("qwen2_5_vl", folder / MODEL)
    if real:
        enlarge(model)
    pictures = DATA.stem + "_images"
    shutil.copytree(DATA.with_name(pictures), (folder / ROWS).with_name(pictures))
    lines = DATA.read_text().splitlines()
    (folder / ROWS).write_text("\n".join(islice(cycle(lines), count)) + "\n")
    given = {"baseModel": str(model), "datasetPath": str(folder / ROWS), "isVision": True}
    spec = effective_spec(TrainingJobSpec.model_validate(given), "rows", local_gpus=0)
    trainer = trainer_for(spec, model)
    encoder = trainer.encoder(trainer.load_processor(model), spec)
    picture = json.loads((model / "config.json").read_text())["image_token_id"]
    batches = [encoder([example]) for example in islice(open_data(spec, 0).training, len(lines))]
    return Exports(
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        tokens=[batch["input_ids"].shape[1] for batch in batches],
        trained=[int((batch["labels"] != IGNORED).sum()) for batch in batches],
        pictured=[int((batch["input_ids"] == picture).sum()) for batch in batches],
    )


def enlarge(folder: Path) -> None:
    """Give the tiny model in ``folder`` the real shape, in bfloat16; its processor and special tokens stay."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    path = folder / "config.json"
    path.write_text(json.dumps(real_config(json.loads(path.read_text()))))
    (folder / "model.safetensors").unlink()
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def real_config(tiny: dict[str, Any]) -> dict[str, Any]:
    """The tiny model's config.json with the sizes of Qwen2.5-VL-3B, its vocabulary's included."""
    sizes = {key: value for key, value in QWEN2_5_VL_3B.items() if key not in ("model_type", "vision_config")}
    rope = {"rope_parameters": {"mrope_section": [16, 24, 24]}}  # half of a head's 128
    text = merge(tiny["text_config"], sizes | rope)
    del text["layer_types"]  # one for each layer; transformers fills it in
    vision = merge(tiny["vision_config"], QWEN2_5_VL_3B["vision_config"])
    tied = QWEN2_5_VL_3B["tie_word_embeddings"]
    return tiny | {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied, "dtype": "bfloat16"}


# The contestants


def ours(spec: EffectiveSpec) -> Measured:
    """The project's whole run, from checking the rows to saving; only the outputs' check is left out."""
    from model_garden.contract.progress import Event, ProgressEvent, StageEvent
    from model_garden_trainer.engine.stopping import StopRequests
    from model_garden_trainer.engine.watchdog import Watchdog
    from model_garden_trainer.models import backends

    backends.import_first(spec)
    from model_garden_trainer.run import train

    steps: list[dict[str, float]] = []
    peaks: dict[str, float] = {}

    def report(event: Event) -> None:
        if isinstance(event, StageEvent) and event.stage in ("training", "saving"):
            peaks[event.stage] = _take_peak()
        elif isinstance(event, ProgressEvent):
            found = event.progress.to_dict()
            steps.append({part: found[f"{part}Seconds"] for part in PARTS} | {"seconds": found["secondsPerStep"]})

    def hung(message: str) -> None:
        print(message, file=sys.stderr, flush=True)
        os._exit(1)

    train(
        TrainerConfig(name="benchmark", spec=spec),
        report,
        StopRequests(),
        Watchdog(900, 300, hung),
        verify=lambda *_: {"row": "none", "answer": ""},
    )
    batch = json.loads((Path(spec.output_dir) / "training_config.json").read_text())["batch"]
    # the stage before "training" was loading, the one before "saving" was training
    return Measured(steps, peaks["training"], peaks["saving"], f"{batch['microBatch']} x {batch['accumulation']}")


def trl(spec: EffectiveSpec) -> Measured:
    """TRL's SFTTrainer as it is, with the published settings: batch 1 x 8, and on a GPU 4-bit and its usual gradient
    checkpointing. The clock is our loop's, so that both sides are timed alike."""
    from transformers import TrainerCallback, set_seed
    from trl import SFTTrainer

    from model_garden_trainer.engine.clock import Clock

    h, clock = spec.hyperparameters, Clock()
    steps: list[dict[str, float]] = []
    began: dict[str, Any] = {}

    class Timed(SFTTrainer):
        def get_batch_samples(self, *given: Any, **options: Any) -> Any:
            began["step"] = time.perf_counter()
            with clock.measure("data"):
                return super().get_batch_samples(*given, **options)

        def compute_loss(self, *given: Any, **options: Any) -> Any:
            with clock.measure("forward"):
                return super().compute_loss(*given, **options)

        def training_step(self, *given: Any, **options: Any) -> Any:
            with clock.measure("backward"):
                return super().training_step(*given, **options)

    class Noting(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            began["optimizer"] = clock.now("optimizer")

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            clock.end("optimizer", began["optimizer"])

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds = time.perf_counter() - began["step"]  # SFTTrainer waits for its metrics
            steps.append(clock.take() | {"seconds": seconds})

    set_seed(h.seed)
    trainer = Timed(**_trl_setup(spec, h), callbacks=[Noting()])
    loading = _take_peak()
    trainer.train()
    return Measured(steps, loading, _take_peak(), f"{h.batch_size} x {h.gradient_accumulation_steps}")


def _trl_setup(spec: EffectiveSpec, h: EffectiveHyperparameters) -> dict[str, Any]:
    """What SFTTrainer is given: the same model, adapters, rows and hyperparameters as ours."""
    import torch
    from peft import LoraConfig as PeftLoraConfig
    from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig
    from trl import SFTConfig

    gpu, lora = torch.cuda.is_available(), spec.lora_config
    options: dict[str, Any] = {"dtype": torch.bfloat16 if gpu else torch.float32, "attn_implementation": "sdpa"}
    if gpu:
        options["device_map"] = {"": 0}
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    settings = SFTConfig(
        output_dir=str(spec.output_dir),
        max_steps=h.max_steps,
        per_device_train_batch_size=h.batch_size,
        gradient_accumulation_steps=h.gradient_accumulation_steps,
        learning_rate=h.learning_rate,
        lr_scheduler_type=h.lr_scheduler_type,
        optim=h.optim,
        seed=h.seed,
        max_length=None,
        gradient_checkpointing=gpu,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        remove_unused_columns=False,
        use_cpu=not gpu,
        bf16=gpu,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    return {
        "model": AutoModelForImageTextToText.from_pretrained(spec.base_model, **options),
        "processing_class": AutoProcessor.from_pretrained(spec.base_model),
        "train_dataset": _trl_rows(Path(spec.dataset_path)),
        "peft_config": PeftLoraConfig(r=lora.r, lora_alpha=lora.lora_alpha, target_modules=targets),
        "args": settings,
    }


def _trl_rows(path: Path) -> Any:
    """A data set of prompt, completion and images; a picture is opened when its row is taken."""
    from datasets import Dataset
    from PIL import Image

    def turns(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        return {
            "prompt": [[{"role": "user", "content": text}] for text in batch["text"]],
            "completion": [[{"role": "assistant", "content": answer}] for answer in batch["response"]],
            "images": [[Image.open(path.parent / image).convert("RGB")] for image in batch["image"]],
        }

    return Dataset.from_list([json.loads(line) for line in path.read_text().splitlines()]).with_transform(turns)


def _take_peak() -> float:
    """GiB at most: of the GPU what PyTorch reserved since the last call; without one, resident memory until now."""
    import resource

    import torch

    if not torch.cuda.is_available():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
    peak: float = torch.cuda.max_memory_reserved() / GIB
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


def main() -> None:
    """``KIND REQUEST RESULT``: both files are JSON, and of a case the request is its effective spec."""
    kind, request, result = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
    from model_garden_trainer.__main__ import set_environment

    set_environment(Path.cwd())
    if kind == "make":
        found: Exports | Measured = make(Path.cwd(), request["count"], real=request["real"])
    else:
        found = {"ours": ours, "trl": trl}[kind](EffectiveSpec.model_validate(request))
    result.write_text(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
