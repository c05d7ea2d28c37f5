"""Each kind of adapter: learned, stopped and resumed to the last bit, and right on the original base model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped, TrainingError
from model_garden_trainer.models import peft_adapter
from model_garden_trainer.models.base_model import carry_processor_files
from model_garden_trainer.preflight import preflight
from tests.trainer.test_fit import same, stop_at
from tests.trainer.workspace import QUICK, TEXT, Told, Workspace, config

pytestmark = pytest.mark.train

ROWS = [{"prompt": f"What is {number}?", "completion": f"It is {number}."} for number in range(4)]
STEPS = {
    "datasetPath": "./data/few.jsonl",
    "hyperparameters": {"maxSteps": 3, "batchSize": 2, "gradientAccumulationSteps": 2},
    "loraConfig": {"r": 4, "loraAlpha": 8},
}
KINDS: dict[str, dict[str, Any]] = {
    "gaussian": {"initLoraWeights": "gaussian"},
    "orthogonal": {"initLoraWeights": "orthogonal"},
    "olora": {"initLoraWeights": "olora"},
    "pissa": {"initLoraWeights": "pissa"},
    "pissa by subspace iterations, rank-stabilized": {"initLoraWeights": "pissa_niter_4", "useRslora": True},
    "DoRA": {"useDora": True},
    "DoRA from PiSSA": {"useDora": True, "initLoraWeights": "pissa"},
    "LoRA+": {"loraplusLrRatio": 16},
    "embeddings and head": {"modulesToSave": ["embed_tokens", "lm_head"]},
    "head with PiSSA": {"modulesToSave": ["lm_head"], "initLoraWeights": "pissa"},
}
RESUMED = ("pissa by subspace iterations, rank-stabilized", "DoRA from PiSSA", "LoRA+", "embeddings and head")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = model.eval()(input_ids=torch.arange(20)[None]).logits.float()
    return answer


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The logits of each model as it was when training ended."""
    from model_garden_trainer.exports import adapter

    seen, save = [], adapter.save

    def look(model: Any, *others: Any) -> None:
        seen.append(logits(model))
        save(model, *others)

    monkeypatch.setattr(adapter, "save", look)
    return seen


@pytest.fixture(autouse=True)
def rows(workspace: Workspace) -> None:
    """Four short rows, all of them in each step."""
    (workspace.folder / "data/few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_adapter_learns_resumes_and_is_right_on_the_base_model(
    workspace: Workspace, trained: list[torch.Tensor], kind: str
) -> None:
    job = config("whole", TEXT, QUICK, STEPS, {"loraConfig": KINDS[kind]})
    outcome, told = workspace.train(job)
    assert outcome.output is not None and outcome.output.verified
    from_base = str(KINDS[kind].get("initLoraWeights")).startswith(("pissa", "olora"))
    assert outcome.output.lora_rank == (8 if from_base else 4)
    assert told.losses[3] < told.losses[1]

    base = AutoModelForCausalLM.from_pretrained("models/qwen2", dtype=torch.float32)
    untrained = logits(base)
    loaded = logits(PeftModel.from_pretrained(base, "models/whole"))
    assert torch.allclose(loaded, trained[0], atol=1e-5), (loaded - trained[0]).abs().max()
    assert not torch.allclose(loaded, untrained, atol=1e-3)

    if kind not in RESUMED:
        return
    broken = config("broken", TEXT, QUICK, STEPS, {"loraConfig": KINDS[kind]})
    requests = StopRequests()
    with pytest.raises(Stopped):
        workspace.train(broken, requests=requests, on_event=stop_at(1, requests))
    _, resumed = workspace.train(broken)
    assert resumed.resumed == [2]
    assert same(workspace.adapter("whole"), workspace.adapter("broken"))


@pytest.mark.known_fault(
    "unslothai/unsloth#9331", "The merge loses the trained output layer of a model with tied embeddings"
)
@pytest.mark.known_fault(
    "huggingface/peft#2018", "The merge loses the trained output layer of a model with tied embeddings"
)
@pytest.mark.known_fault(
    "hiyouga/LlamaFactory#10832", "The merge loses the trained output layer of a model with tied embeddings"
)
@pytest.mark.parametrize(
    ("named", "tied"),
    [
        ({"targetModules": ["q_proj", "lm_head"]}, False),
        ({"modulesToSave": ["lm_head"]}, False),
        ({"modulesToSave": ["embed_tokens", "lm_head"]}, True),
    ],
    ids=["an adapter of the head", "the head whole", "both whole"],
)
def test_tied_embeddings_are_merged_as_they_were_trained(
    workspace: Workspace, trained: list[torch.Tensor], named: dict[str, Any], tied: bool
) -> None:
    base = AutoModelForCausalLM.from_pretrained("models/qwen2")
    base.config.tie_word_embeddings = True
    base.tie_weights()
    base.save_pretrained("models/tied")
    carry_processor_files(Path("models/qwen2"), Path("models/tied"))

    job = {"baseModel": "./models/tied", "saveMethod": "merged_16bit", "loraConfig": named}
    outcome, _ = workspace.train(config("out", TEXT, QUICK, STEPS, job))
    assert outcome.output is not None and outcome.output.verified
    merged = AutoModelForCausalLM.from_pretrained("models/out/merged", dtype=torch.float32)
    assert peft_adapter.is_tied(merged) is tied
    assert float((logits(merged) - trained[0]).norm() / trained[0].norm()) < 0.01  # 16-bit rounding


def test_embeddings_learn_at_their_own_rate(workspace: Workspace) -> None:
    named = {"loraConfig": {"modulesToSave": ["lm_head"]}}
    one_step = {"hyperparameters": {"maxSteps": 1, "warmupSteps": 0, "embeddingLearningRate": 1e-4, "weightDecay": 0}}
    workspace.train(config("out", TEXT, QUICK, STEPS, named, one_step))
    head = next(weight for name, weight in workspace.adapter("out").items() if "lm_head" in name)
    change = (
        head - AutoModelForCausalLM.from_pretrained("models/qwen2", dtype=torch.float32).lm_head.weight.detach()
    ).abs()
    assert float(change.max()) == pytest.approx(1e-4, rel=0.01)  # Adam's first step is as long as its rate
    with pytest.raises(TrainingError, match="neither embed_tokens nor lm_head is trained whole"):
        workspace.train(config("other", TEXT, QUICK, STEPS, {"loraConfig": {"modulesToSave": ["norm"]}}, one_step))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lm_heads", "no module 'lm_heads'; there are embed_tokens, lm_head, norm"),
        ("q_proj", "q_proj would get an adapter"),
    ],
)
def test_a_wrong_module_is_named(workspace: Workspace, name: str, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        workspace.train(config("out", TEXT, QUICK, STEPS, {"loraConfig": {"modulesToSave": [name]}}))


def test_training_continues_from_an_adapter_where_it_ended(workspace: Workspace) -> None:
    shutil.copy("data/few.jsonl", "data/held.jsonl")
    held = {"validationDatasetPath": "./data/held.jsonl"}
    _, first = workspace.train(config("first", TEXT, QUICK, STEPS, held, {"hyperparameters": {"evalSteps": 3}}))
    still = {"learningRate": 1e-30, "evalSteps": 1, "maxSteps": 1}
    start = {"datasetPath": "./data/few.jsonl", "hyperparameters": still, "adapterPath": "first"}
    job = config("still", TEXT, held, start)
    assert job.spec.adapter_path == "./models/first" and job.spec.lora_config.r is None
    _, second = workspace.train(job)
    assert second.eval_losses[1] == first.eval_losses[3]
    assert same(workspace.adapter("first"), workspace.adapter("still"))
    assert "Continued from | ./models/first" in (workspace.folder / "models/still/README.md").read_text()
    assert "r 4, alpha 8" in (workspace.folder / "models/still/README.md").read_text()

    further = {"adapterPath": "./models/first", "loraConfig": {"loraDropout": 0.1, "r": 4}}
    whole = config(
        "whole", TEXT, QUICK, {"datasetPath": "./data/few.jsonl", "hyperparameters": {"maxSteps": 3}}, further
    )
    outcome, _ = workspace.train(whole)
    assert outcome.output is not None and outcome.output.verified and outcome.output.lora_rank == 4
    broken = whole.model_copy(update={"spec": whole.spec.model_copy(update={"output_dir": "./models/broken"})})
    requests = StopRequests()
    with pytest.raises(Stopped):
        workspace.train(broken, requests=requests, on_event=stop_at(1, requests))
    _, resumed = workspace.train(broken)
    assert resumed.resumed == [2] and same(workspace.adapter("whole"), workspace.adapter("broken"))


def test_an_adapter_that_does_not_fit_is_refused_before_training(workspace: Workspace) -> None:
    workspace.train(config("first", TEXT, QUICK, STEPS, {"hyperparameters": {"maxSteps": 1}}))
    start = {"datasetPath": "./data/few.jsonl", "adapterPath": "./models/first"}
    for part, words in (
        ({"loraConfig": {"r": 8}}, r"spec.loraConfig.r: 8, but the adapter ./models/first has 4; remove the field"),
        ({"adapterPath": "./models/nowhere"}, "spec.adapterPath: ./models/nowhere is not the folder of a LoRA adapter"),
        ({"baseModel": "./models/qwen2_5_vl", "isVision": True}, "is an adapter of ./models/qwen2, not of"),
    ):
        for check in (workspace.train, lambda job: preflight(job, Told())):
            with pytest.raises(TrainingError, match=words):
                check(config("second", TEXT, start, part))

    template = workspace.folder / "models/first/chat_template.jinja"
    template.write_text(template.read_text() + " ")
    told = Told()
    outcome = preflight(config("second", TEXT, start), told)
    assert any("another chat template" in warning for warning in told.warnings)
    assert outcome.estimate is not None
    fresh = preflight(config("third", TEXT, STEPS), Told()).estimate
    assert fresh is not None and outcome.estimate.trained_parameters == fresh.trained_parameters
