"""What each family of models can do, shown on a tiny model of it: each cell of docs/reference/models.md is a test here.

    MODEL_GARDEN_WRITE_MATRIX=1 python -m pytest tests/trainer/test_family_matrix.py   # writes the page

The tests of a family share one training run and its tiny model.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from model_garden.contract.progress import Event, Outcome, ProgressEvent
from model_garden.contract.spec import EffectiveSpec
from model_garden.estimate.formulas import adapted_modules, lora_parameters
from model_garden.estimate.model_shape import read_model
from model_garden.families import AUDIO_MODULES, VISION_MODULES
from model_garden_trainer.batches.collator import IGNORED
from model_garden_trainer.batches.packing import PackedSteps, refusal
from model_garden_trainer.batches.splits import open_data
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped
from model_garden_trainer.methods.sft import VisionLanguageTrainer
from model_garden_trainer.models import auto_classes, full
from testing.tiny_families import FAMILIES, UNAVAILABLE, TinyFamily, make_tiny
from tests.trainer.family_table import CAPABILITIES, Table
from tests.trainer.workspace import Told, Workspace, config

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array:DeprecationWarning"),  # of transformers' processors
]

TALK = [("What is seven times six?", "fortytwo"), ("And minus two?", "forty"), ("Name a river.", "Danube")]
STEPS = {"maxSteps": 6, "batchSize": 2, "gradientAccumulationSteps": 1, "warmupSteps": 1, "learningRate": 2e-2}
COMMON: dict[str, Any] = {
    "hyperparameters": STEPS | {"maxSeqLength": 512},
    "loraConfig": {"r": 4},
    "baseModel": "./models/base",
}


@dataclass
class Run:
    """The training run of a family, whose output is a merged model."""

    family: TinyFamily
    workspace: Workspace
    base: Path
    spec: EffectiveSpec
    outcome: Outcome
    told: Told

    @property
    def output(self) -> Path:
        return self.workspace.folder / "models/whole"


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    table = Table.load(write=bool(os.environ.get("MODEL_GARDEN_WRITE_MATRIX")))
    yield table
    table.save()


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.model.replace(" ", "-"))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    family: TinyFamily = request.param
    folder = tmp_path_factory.mktemp("family")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        base = make_tiny(family, folder / "models/base")
        _write_rows(folder / "data", family)
        workspace = Workspace(folder)
        job = config("whole", COMMON, _data(family), {"saveMethod": "merged_16bit"})
        yield Run(family, workspace, base, job.spec, *workspace.train(job))
    shutil.rmtree(folder)


def _data(family: TinyFamily) -> dict[str, Any]:
    more: dict[str, Any] = {"isVision": True, "datasetPath": "./data/images.jsonl"} if family.vision else {}
    return {"datasetPath": "./data/text.jsonl"} | more | dict(family.spec)


def _write_rows(folder: Path, family: TinyFamily) -> None:
    folder.mkdir()
    most = 1 if family.one_answer else 2
    chats = [[*TALK[start:], *TALK[:start]][: min(turns, most)] for start, turns in ((0, 2), (1, 1), (2, 2), (0, 1))]
    for name in ("text", *(["images"] if family.vision else [])):
        rows = []
        for number, chat in enumerate(chats):
            turns = [
                {"role": r, "content": c} for pair in chat for r, c in zip(("user", "assistant"), pair, strict=True)
            ]
            row: dict[str, Any] = {"messages": turns}
            if name == "images":
                Image.new("RGB", (56, 42), ("red", "green", "blue", "white")[number]).save(folder / f"{number}.png")
                row["images"] = [f"{number}.png"]
                turns[0]["content"] = f"<image>{turns[0]['content']}"
            rows.append(json.dumps(row))
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")


def test_it_loads_and_trains_until_the_loss_falls(run: Run, table: Table) -> None:
    assert run.outcome.result == "Succeeded"
    losses = run.told.losses
    assert min(losses[5], losses[6]) < 0.97 * losses[1], losses
    adapter = run.workspace.adapter("whole")
    assert all(weight.abs().max() > 0 for name, weight in adapter.items() if "lora_B" in name)
    table.record(run.family.model, "train", "yes")


def test_answers_and_their_ends_alone_carry_loss(run: Run, table: Table) -> None:
    encoder = auto_classes.collator(run.spec, run.base)
    training = open_data(run.spec, 0).training
    batch = encoder([training[0], training[1]])
    wanted = [["fortytwo"] if run.family.one_answer else ["fortytwo", "forty"], ["forty"]]
    for row, answers in enumerate(wanted):
        ids, labels = batch["input_ids"][row], batch["labels"][row]
        spoken = encoder.tokenizer.decode(ids[labels != IGNORED])
        for answer in answers:
            before, found, spoken = spoken.partition(answer)
            assert found and not _words(before), before
            assert re.match(r"\s*(<[^<>]*>|\[[A-Z/]+\])", spoken), "an end follows"
        assert not _words(spoken), spoken
        silent = encoder.tokenizer.decode(ids[labels == IGNORED])
        assert "fortytwo" not in silent and ("minus" in silent or run.family.one_answer)
    table.record(run.family.model, "mask", "one answer a row" if run.family.one_answer else "yes")


def _words(text: str) -> str:
    """``text`` without control tokens."""
    return re.sub(r"<.channel.>final|<[^<>]*>|\[/?[A-Z]+\]", "", text).strip()


def test_adapters_are_on_attention_and_mlp_of_the_language_model(run: Run, table: Table) -> None:
    names = set(run.workspace.adapter("whole"))
    for name in names:
        parts = set(name.split("."))
        assert not parts & (VISION_MODULES | AUDIO_MODULES | {"router", "gate", "lm_head", "embed_tokens"}), name
    said = [message for message in run.told.warnings if "experts" in message]
    assert bool(said) == run.family.mixture, run.told.warnings
    attention, mlp = (any(word in name for name in names) for word in ("attn", ".mlp."))
    assert attention and mlp != run.family.mixture
    table.record(run.family.model, "adapters", "attention, MLP" if mlp else "attention")


def test_a_stopped_run_resumes_exactly(run: Run, table: Table) -> None:
    requests, job = StopRequests(), config("broken", COMMON, _data(run.family))

    def stop(event: Event) -> None:
        if isinstance(event, ProgressEvent) and event.progress.step == 3:
            requests.stop = True

    with pytest.raises(Stopped):
        run.workspace.train(job, requests=requests, on_event=stop)
    outcome, rest = run.workspace.train(job)
    assert outcome.result == "Succeeded" and rest.resumed
    whole, broken = run.workspace.adapter("whole"), run.workspace.adapter("broken")
    assert whole.keys() == broken.keys() and all(torch.equal(whole[name], broken[name]) for name in whole)
    table.record(run.family.model, "resume", "yes")


def test_the_merged_model_answers_as_base_and_adapter_and_keeps_the_rest(run: Run, table: Table) -> None:
    from safetensors.torch import load_file

    found = run.workspace.record("whole")["verification"]
    assert found["difference"] < 0.05
    before = load_file(run.base / "model.safetensors")
    after = load_file(run.output / "merged/model.safetensors")
    assert before.keys() == after.keys()
    adapted = {name.split("base_model.model.")[1].split(".lora_")[0] for name in run.workspace.adapter("whole")}
    changed = {name for name in before if not torch.equal(before[name].bfloat16(), after[name].bfloat16())}
    assert changed and len(changed) <= len(adapted)
    assert not any(VISION_MODULES & set(name.split(".")) for name in changed)
    table.record(run.family.model, "merge, reload", "yes")


def test_packed_losses_are_the_unpacked_ones_or_packing_is_refused(run: Run, table: Table) -> None:
    kind = json.loads((run.base / "config.json").read_text())["model_type"]
    refused = refusal(kind, None)
    if refused:
        table.record(run.family.model, "packing", "refused")
        return
    encoder = auto_classes.collator(run.spec, run.base)
    training = open_data(run.spec, 0).training
    examples = [training[index] for index in range(len(training))]
    model = auto_classes.model_class(run.spec, run.base).from_pretrained(run.base).train()
    pad = encoder.tokenizer.pad_token_id
    steps = PackedSteps(encoder, capacity=4096, rows=1, pad_token_id=pad, config=model.config)
    with torch.no_grad():
        apart = sum(sum(_losses(model, encoder([example]))) for example in examples)
        together = sum(sum(_losses(model, batch)) for batch in steps(examples)["micro_batches"])
    assert together == pytest.approx(apart, rel=1e-5)
    table.record(run.family.model, "packing", "yes")


def _losses(model: Any, batch: dict[str, torch.Tensor]) -> list[float]:
    """Of each row, the sum over its trained tokens."""
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}, use_cache=False).logits
    found = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], ignore_index=IGNORED, reduction="none"
    )
    return found.sum(dim=1).tolist()  # type: ignore[no-any-return]


def test_rows_of_one_batch_may_have_no_image_or_several_of_other_sizes(run: Run, table: Table) -> None:
    if not run.family.vision:
        table.record(run.family.model, "mixed batches", "-")
        return
    data = run.workspace.folder / "data"
    for number, size in enumerate([(56, 42), (112, 56), (56, 112)]):  # two of them have the same area
        Image.linear_gradient("L").convert("RGB").resize(size).save(data / f"size{number}.png")
    rows = [
        {
            "messages": [
                {"role": "user", "content": "<image>" * len(images) + asked},
                {"role": "assistant", "content": answered},
            ],
            "images": [f"size{number}.png" for number in images],
        }
        for images, (asked, answered) in zip([[], [0], [1, 2], [2]], [*TALK, TALK[0]], strict=True)
    ]
    (data / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = run.spec.model_copy(update={"dataset_path": "./data/mixed.jsonl"})
    model = auto_classes.model_class(spec, run.base).from_pretrained(run.base).eval()
    collate = VisionLanguageTrainer.collator(auto_classes.collator(spec, run.base), model)
    examples = list(open_data(spec, 0).training)
    with torch.no_grad():
        apart = [_losses(model, collate([example]))[0] for example in examples]
        assert _losses(model, collate(examples)) == pytest.approx(apart, rel=1e-5)
    table.record(run.family.model, "mixed batches", "yes")


def test_full_tuning_trains_the_language_model_alone(run: Run) -> None:
    model = auto_classes.model_class(run.spec, run.base).from_pretrained(run.base)
    full.unfreeze(model, run.spec.lora_config)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    seeing = ("model.language_model.", "model.text_model.", "language_model.", "lm_head.")
    sides = seeing if run.family.vision else ("model.", "lm_head.")
    language = {name for name, _ in model.named_parameters() if name.startswith(sides)}
    assert trained == language and len(trained) > 10


def test_text_alone_trains_it_too(run: Run, table: Table) -> None:
    if not run.family.vision:
        table.record(run.family.model, "text alone", "yes")
        return
    job = config(
        "text", COMMON, {"datasetPath": "./data/text.jsonl", "hyperparameters": {"maxSteps": 2}}, run.family.spec
    )
    outcome, told = run.workspace.train(job)
    assert outcome.result == "Succeeded" and told.losses
    assert outcome.output and outcome.output.model_class == "AutoModelForImageTextToText"
    images = run.workspace.adapter("whole").keys()
    assert run.workspace.adapter("text").keys() == images
    table.record(run.family.model, "text alone", "yes")


def test_the_estimate_counts_its_parameters(run: Run, table: Table) -> None:
    from transformers import AutoConfig

    with torch.device("meta"):
        real = auto_classes.model_class(run.spec, run.base).from_config(AutoConfig.from_pretrained(run.base))
    shape = read_model(json.loads((run.base / "config.json").read_text()))
    counted = sum(weight.numel() for weight in real.parameters())
    trained = sum(weight.numel() for weight in run.workspace.adapter("whole").values())
    estimated = lora_parameters(adapted_modules(shape.modules, run.spec.lora_config), 4)
    exact = (shape.parameters, estimated) == (counted, trained)
    assert exact or shape.approximations, f"{shape.parameters} of {counted}, {estimated} of {trained} adapter weights"
    assert shape.parameters == pytest.approx(counted, rel=0.5)
    table.record(run.family.model, "estimate", "exact" if exact else "approximate")


@pytest.mark.parametrize(("model", "kind", "reason"), UNAVAILABLE)
def test_what_transformers_lacks_is_listed(model: str, kind: str, reason: str, table: Table) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    assert kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    for capability in CAPABILITIES:
        table.record(model, capability, "-")
    assert reason


def test_every_family_is_in_the_table(table: Table) -> None:
    assert table.models == [*(family.model for family in FAMILIES), *(entry[0] for entry in UNAVAILABLE)]
