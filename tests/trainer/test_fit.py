"""Runs of tiny models in this process: what a user gets of them, also when they are stopped, killed or misled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from model_garden.contract.progress import CheckpointEvent, Event, ProgressEvent, StageEvent
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped, TrainingError
from model_garden_trainer.exports.outputs import tensor_dtypes
from model_garden_trainer.methods import finished_batches
from tests.trainer.workspace import QUICK, TEXT, VISION, Workspace, config, same, stop_at

pytestmark = pytest.mark.train


def test_keys_that_no_format_reads_are_a_warning_of_the_run(workspace: Workspace) -> None:
    rows = workspace.folder / TEXT["datasetPath"]
    rows.write_text("".join(json.dumps(json.loads(line) | {"id": 1}) + "\n" for line in rows.read_text().splitlines()))
    count = len(rows.read_text().splitlines())
    _, told = workspace.train(config("ignored", TEXT, QUICK, {"hyperparameters": {"maxSteps": 1}}))
    assert told.warnings == [f"keys that no format reads are ignored: id ({count} rows)"]


def test_a_vision_model_learns_and_leaves_a_model_that_loads_elsewhere(workspace: Workspace) -> None:
    job = config("shapes", VISION, QUICK, {"hyperparameters": {"numEpochs": 8}, "saveMethod": "merged_16bit"})
    outcome, told = workspace.train(job)

    losses = list(told.losses.values())
    assert len(losses) == 24 and losses[-1] < losses[0]
    assert outcome.result == "Succeeded" and outcome.output is not None and outcome.output.verified
    assert outcome.progress is not None and outcome.progress.step == outcome.progress.total_steps == 24
    assert [e.stage for e in told.events if isinstance(e, StageEvent)] == [
        "dataset", "model", "training", "saving", "exporting", "verifying",
    ]  # fmt: skip

    elsewhere = workspace.folder.parent / f"{workspace.folder.name}-elsewhere"
    shutil.move(workspace.folder / "models" / "shapes", elsewhere)
    from transformers import AutoModelForImageTextToText, AutoProcessor

    assert AutoProcessor.from_pretrained(elsewhere).chat_template
    assert AutoProcessor.from_pretrained(elsewhere / "merged").chat_template
    assert AutoModelForImageTextToText.from_pretrained(elsewhere / "merged").dtype == torch.bfloat16
    assert tensor_dtypes(elsewhere / "merged") == {"BF16"}
    card = (elsewhere / "README.md").read_text()
    assert "| Base model | ./models/qwen2_5_vl |" in card and "10 rows, 10 images" in card
    adapted = json.loads((elsewhere / "adapter_config.json").read_text())
    assert adapted["base_model_name_or_path"] == "./models/qwen2_5_vl"


@pytest.mark.parametrize(("kind", "workers"), [(VISION, 1), (TEXT, 0)], ids=["vision, in a worker", "text"])
def test_stop_and_resume_equal_an_unbroken_run_exactly(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any], workers: int
) -> None:
    monkeypatch.setattr(finished_batches, "workers", lambda *_: workers)
    steps = {
        "hyperparameters": {"maxSteps": 6, "evalSteps": 2, "loggingSteps": 2, "saveSteps": 4},
        "loraConfig": {"loraDropout": 0.1},
        "validationFraction": 0.25,
    }
    _, whole = workspace.train(config("whole", kind, QUICK, steps))

    requests, broken = StopRequests(), config("broken", kind, QUICK, steps)
    seen = iter(range(1, 100))
    collate = _count_batches(requests, seen, stop_after=3)
    with pytest.raises(Stopped) as stopped, collate:
        workspace.train(broken, requests=requests)
    assert stopped.value.checkpoint_step == 3
    _, rest = workspace.train(broken)

    assert rest.resumed == [3]
    assert {**rest.losses} == {step: loss for step, loss in whole.losses.items() if step > 3}
    assert {**rest.eval_losses} == {step: loss for step, loss in whole.eval_losses.items() if step > 3}
    assert same(workspace.adapter("whole"), workspace.adapter("broken"))
    kept = [(line["step"], line.get("loss"), line.get("evalLoss")) for line in workspace.metrics("broken")]
    assert kept == [(line["step"], line.get("loss"), line.get("evalLoss")) for line in workspace.metrics("whole")]


def _count_batches(requests: StopRequests, steps: Any, stop_after: int) -> Any:
    """Within it, the stop is asked for in the middle of step ``stop_after``, whatever is reported when."""
    from model_garden_trainer.methods.sft import TextTrainer

    original = TextTrainer.get_batch_samples

    def counted(self: Any, *args: Any) -> Any:
        if next(steps) == stop_after:
            requests.stop = True
        return original(self, *args)

    patch = pytest.MonkeyPatch.context()

    class Within:
        def __enter__(self) -> None:
            self.patch = patch.__enter__()
            self.patch.setattr(TextTrainer, "get_batch_samples", counted)

        def __exit__(self, *exception: Any) -> None:
            patch.__exit__(*exception)

    return Within()


def test_how_a_batch_is_split_or_packed_changes_no_loss(workspace: Workspace) -> None:
    def losses(name: str, **hyperparameters: Any) -> list[float]:
        part = {"hyperparameters": {"maxSteps": 4, "maxSeqLength": 512} | hyperparameters}
        return list(workspace.train(config(name, VISION, QUICK, part))[1].losses.values())

    one_by_one = losses("one", batchSize=1, gradientAccumulationSteps=8)
    assert losses("eight", batchSize=8, gradientAccumulationSteps=1) == pytest.approx(one_by_one, abs=1e-4)
    assert losses("auto", batchSize=1, gradientAccumulationSteps=8, autoBatchSize=True) == pytest.approx(
        one_by_one, abs=1e-4
    )
    assert workspace.record("auto")["batch"] == {"microBatch": 8, "accumulation": 1, "processes": 1}
    assert losses("packed", batchSize=1, gradientAccumulationSteps=8, packing=True) == pytest.approx(
        one_by_one, abs=1e-4
    )


def test_memory_that_runs_out_in_mid_training_halves_the_batch_and_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = {"hyperparameters": {"maxSteps": 4, "saveSteps": 2, "batchSize": 4, "gradientAccumulationSteps": 1}}
    _, plain = workspace.train(config("plain", TEXT, QUICK, part))
    from model_garden_trainer.methods.sft import TextTrainer

    original = TextTrainer.training_step

    def short_of_memory(self: Any, model: Any, inputs: Any, *rest: Any) -> Any:
        if len(inputs["input_ids"]) == 4 and self.state.global_step == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, model, inputs, *rest)

    monkeypatch.setattr(TextTrainer, "training_step", short_of_memory)
    part["hyperparameters"]["autoBatchSize"] = True
    _, told = workspace.train(config("short", TEXT, QUICK, part))
    assert "continues with batches of 2" in told.warnings[0]
    assert list(told.losses.values()) == pytest.approx(list(plain.losses.values()), abs=1e-4)
    part["hyperparameters"]["autoBatchSize"] = False
    with pytest.raises(TrainingError, match="autoBatchSize: true") as raised:
        workspace.train(config("fixed", TEXT, QUICK, part))
    assert raised.value.exit_code == 5


def test_stop_and_save_ends_early_with_a_usable_model(workspace: Workspace) -> None:
    annotations = workspace.folder / "podinfo" / "annotations"
    annotations.parent.mkdir()

    def ask(event: Event) -> None:
        if isinstance(event, ProgressEvent) and event.progress.step == 2:
            annotations.write_text('kubernetes.io/config="x"\nmodel-garden.dev/stop="save"\n')

    outcome, _ = workspace.train(config("early", TEXT, QUICK, {"hyperparameters": {"maxSteps": 9}}), on_event=ask)
    assert outcome.result == "Succeeded" and outcome.stopped_early
    assert outcome.output is not None and outcome.output.verified and outcome.output.trained_steps == 3
    assert outcome.progress is not None and (outcome.progress.step, outcome.progress.total_steps) == (3, 9)


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(workspace: Workspace) -> None:
    job = config("cut", TEXT, QUICK, {"hyperparameters": {"maxSteps": 6, "saveSteps": 2}})
    requests = StopRequests()
    with pytest.raises(Stopped):
        workspace.train(job, requests=requests, on_event=stop_at(3, requests))
    state = workspace.folder / "models/cut/checkpoints/checkpoint-4/optimizer.pt"
    state.write_bytes(state.read_bytes()[:-1])
    outcome, told = workspace.train(job)
    assert told.resumed == [2] and outcome.result == "Succeeded"
    assert [line["step"] for line in workspace.metrics("cut")] == [1, 2, 3, 4, 5, 6]


def test_the_base_models_own_folder_is_no_output(workspace: Workspace) -> None:
    job = config("over", TEXT, QUICK)
    job = config("over", TEXT, QUICK, {"outputDir": f"{job.spec.base_model}/../{Path(job.spec.base_model).name}"})
    with pytest.raises(TrainingError, match=r"spec\.outputDir: .* is the folder of spec\.baseModel") as raised:
        workspace.train(job)
    assert raised.value.exit_code == 2


def test_other_settings_neither_continue_nor_overwrite_what_is_there(workspace: Workspace) -> None:
    part = {"outputDir": "./models/mine", "hyperparameters": {"maxSteps": 4, "saveSteps": 1}}
    requests = StopRequests()
    with pytest.raises(Stopped):
        workspace.train(config("a", TEXT, QUICK, part), requests=requests, on_event=stop_at(1, requests))
    with pytest.raises(TrainingError, match="other settings or other data") as raised:
        workspace.train(config("b", TEXT, QUICK, part, {"loraConfig": {"r": 4}}))
    assert raised.value.reason == "OutputNotWritable" and raised.value.exit_code == 2

    workspace.train(config("a", TEXT, QUICK, part))
    before = workspace.adapter("mine")
    with pytest.raises(TrainingError, match="finished model of job 'a'"):
        workspace.train(config("b", TEXT, QUICK, part, {"loraConfig": {"r": 4}}))
    again, told = workspace.train(config("a", TEXT, QUICK, part))
    assert again.result == "Succeeded" and "already holds" in told.warnings[0]
    assert list(told.losses) == [1, 2, 3, 4]
    assert same(before, workspace.adapter("mine"))


def test_a_run_killed_while_it_saved_only_saves(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    job = config("late", TEXT, QUICK, {"hyperparameters": {"maxSteps": 3}})
    from model_garden_trainer.exports import adapter

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(adapter, "save", killed)
        workspace.train(job)
    outcome, told = workspace.train(job)
    assert told.resumed == [3] and told.losses == {}
    assert outcome.output is not None and outcome.output.trained_steps == 3 and not outcome.stopped_early


@pytest.fixture
def broken_model(workspace: Workspace) -> Path:
    """A text model whose last layer holds NaN."""
    from safetensors.torch import load_file, save_file

    folder = workspace.folder / "models/broken"
    shutil.copytree(workspace.folder / "models/qwen2", folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_loss_that_is_no_number_stops_at_once(workspace: Workspace, broken_model: Path) -> None:
    with pytest.raises(TrainingError, match="step 1: the loss is nan") as raised:
        workspace.train(config("nan", TEXT, QUICK, {"baseModel": "./models/broken"}))
    assert raised.value.exit_code == 6
    skip = {"baseModel": "./models/broken", "health": {"nonFiniteLoss": "Skip"}, "hyperparameters": {"maxSteps": 2}}
    with pytest.raises(TrainingError, match="NaN or infinite") as raised:  # skipped to the end, and caught by the check
        workspace.train(config("skip", TEXT, QUICK, skip))
    assert raised.value.reason == "ExportFailed" and raised.value.exit_code == 7
    adapter = workspace.adapter("skip")
    assert all(torch.isfinite(value).all() for value in adapter.values())
    assert all(not value.any() for key, value in adapter.items() if "lora_B" in key)  # no update was made


def test_a_merge_that_went_wrong_is_no_success(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_garden_trainer.exports import merged

    def forgetful(job: Any, base: Path, output: Path, folder: Path) -> None:
        """Writes the base model, as a merge does that loses the adapter."""
        shutil.copytree(base, folder)

    monkeypatch.setattr(merged, "save_16bit", forgetful)
    part = {"saveMethod": "merged_16bit", "hyperparameters": {"numEpochs": 8, "learningRate": 0.05}}
    with pytest.raises(TrainingError, match="the merge failed") as raised:
        workspace.train(config("wrong", TEXT, QUICK, part))
    assert raised.value.exit_code == 7
    assert workspace.adapter("wrong")
    assert not (workspace.folder / "models/wrong/training_config.json").exists()


def test_checkpoints_are_few_and_each_is_told(workspace: Workspace) -> None:
    part = {"hyperparameters": {"maxSteps": 5, "saveSteps": 1, "saveTotalLimit": 2}}
    _, told = workspace.train(config("few", TEXT, QUICK, part))
    assert told.checkpoints == [1, 2, 3, 4, 5]
    root = workspace.folder / "models/few/checkpoints"
    assert sorted(path.name for path in root.iterdir()) == ["checkpoint-4", "checkpoint-5"]
    assert all((path / "complete.json").exists() for path in root.iterdir())
    assert any(isinstance(event, CheckpointEvent) for event in told.events)


@pytest.mark.parametrize("schedule", ["linear", "polynomial"])
def test_a_run_of_one_step_trains(workspace: Workspace, schedule: str) -> None:
    """A warmup of that one step would train at a learning rate of 0."""
    one = {"hyperparameters": {"maxSteps": 1, "lrSchedulerType": schedule, "warmupSteps": 0.03}}
    _, told = workspace.train(config("one", TEXT, QUICK, one))
    trained = [weight for name, weight in workspace.adapter("one").items() if "lora_B" in name]
    assert list(told.losses) == [1]
    assert any(bool(weight.any()) for weight in trained)  # lora_B starts as zeros


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("no such model", {"baseModel": "./models/none"}, 4, "does not exist"),
    ("a folder without a model", {"baseModel": "./data"}, 4, "has no config.json"),
    ("a text model asked to see", {"isVision": True}, 4, "is a text model"),
    ("no such data", {"datasetPath": "./data/none.jsonl"}, 3, "none.jsonl"),
    ("rows that are too long", {"hyperparameters": {"maxSeqLength": 64}}, 3, "never truncated"),
    ("a layer that is not there", {"loraConfig": {"targetModules": ["query"]}}, 2, "there are .*q_proj"),
    ("an unwritable output", {"outputDir": "./data/text_test_dataset.jsonl/x"}, 2, "cannot be written"),
    ("4 bit without a GPU", {"quantization": "4bit", "resources": {"limits": {"nvidia.com/gpu": 1}}}, 2, "needs a GPU"),
]


@pytest.mark.parametrize(("part", "code", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_cannot_be_trained_is_refused_with_the_fix(
    workspace: Workspace, part: dict[str, Any], code: int, words: str
) -> None:
    from model_garden.contract.defaults import merge
    from model_garden.contract.spec import EffectiveSpec
    from model_garden.contract.trainer_config import TrainerConfig

    spec = merge(config("bad", TEXT, {k: v for k, v in part.items() if k != "quantization"}).spec.to_dict(), part)
    with pytest.raises(TrainingError, match=words) as raised:
        workspace.train(TrainerConfig(name="bad", spec=EffectiveSpec.model_validate(spec)))
    assert raised.value.exit_code == code
