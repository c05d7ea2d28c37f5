"""The check of all that needs a GPU: its judgment, its arithmetic, and the check itself with tiny models on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from model_garden.contract.defaults import effective_spec
from model_garden.contract.spec import TrainingJobSpec
from model_garden.estimate.estimate import estimate
from model_garden.estimate.model_shape import read_model
from testing.model_configs import QWEN2_5_3B, QWEN2_5_VL_3B
from tests.estimate.test_model_shape import on_meta
from tests.tiny import tiny_model
from tools.gpu_check import lanes
from tools.gpu_check.checks import disagreements, problems
from tools.gpu_check.flops import Work, peak_flops, step_flops
from tools.gpu_check.lanes import Row
from tools.gpu_check.plan import AGREEMENTS, Agreement, Lane, Section, plan
from tools.gpu_check.worker import effective

__all__ = ["tiny_model"]

ROOT = Path(__file__).parents[2]
UNSLOTH_PYTHON = ROOT / ".venv-unsloth" / "bin" / "python"
SPEC = {"baseModel": "./m", "datasetPath": "./d.jsonl"}
VISION = effective_spec(TrainingJobSpec.model_validate(SPEC | {"isVision": True}), "job")


def check(python: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "tools.gpu_check", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def found(**changes: Any) -> dict[str, Any]:
    steps = [{"step": step, "loss": 5.0, "gradNorm": 0.5, "secondsPerStep": 0.1} for step in (1, 2)]
    return {
        "result": "Succeeded",
        "steps": steps,
        "changedAdapters": 4,
        "adapters": 4,
        "leftOverGiB": 0.01,
        "stoppedAt": None,
        "resumedAt": [],
        "evalLosses": [],
        "verification": {},
    } | changes


def section(**changes: Any) -> Section:
    return Section(**{"name": "a", "kind": "train", "limit": 9, "spec": {"hyperparameters": {"maxSteps": 2}}} | changes)


def step(number: int, **changes: Any) -> dict[str, Any]:
    return {"step": number, "loss": 5.0, "gradNorm": 0.5} | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"changedAdapters": 0}, "all 4 lora_B matrices are 0"),
        ({"steps": [step(1, gradNorm=0.0), step(2)]}, "step 1: the gradient norm is 0.0; nothing trains"),
        ({"steps": [step(1), step(2, gradNorm=None)]}, "step 2: the gradient norm is None"),
        ({"steps": [step(1, loss=float("nan")), step(2)]}, "step 1: the loss is nan"),
        ({"steps": [step(1)]}, "steps [1] were reported, and 2 asked for"),
        ({"leftOverGiB": 0.2}, "0.20 GiB of the GPU stay allocated; at most 0.1 may"),
        ({"result": "Stopped"}, "the run's result is Stopped"),
    ],
)
def test_a_run_that_trains_nothing_does_not_pass(changes: dict[str, Any], words: str) -> None:
    assert problems(section(), found()) == []
    assert any(words in problem for problem in problems(section(), found(**changes)))


def test_answers_of_the_same_reward_may_give_no_gradient_but_something_must_be_trained() -> None:
    grpo = section(spec={"method": "grpo", "hyperparameters": {"maxSteps": 2}})
    still = [step(1, gradNorm=0.0), step(2)]
    assert problems(grpo, found(steps=still)) == []
    assert problems(grpo, found(steps=still, changedAdapters=0)) == ["all 4 lora_B matrices are 0; nothing was trained"]


def test_a_batch_that_does_not_fit_is_halved() -> None:
    scarce = section(gpu_gib=1.0)
    assert problems(scarce, found(warnings=["a batch of 8 rows does not fit into memory; trying"])) == []
    assert problems(scarce, found(warnings=[])) == ["the batch was not halved, although the process had 1.0 GiB"]


def test_the_checks_of_a_backend_are_dealt_to_several_processes() -> None:
    _, [one], _ = plan(quick=False, only="^unsloth: vision", at_once=1)
    _, several, _ = plan(quick=False, only="^unsloth: vision", at_once=4)
    assert len(several) == 4
    assert {each.name for lane in several for each in lane.sections} == {each.name for each in one.sections}


def test_a_resumed_run_continues_where_it_stopped() -> None:
    resumed = section(stop_after=1)
    assert problems(resumed, found(stoppedAt=1, resumedAt=[1])) == []
    assert problems(resumed, found(stoppedAt=1)) == ["the run stopped at step 1, and resumed at []"]


def test_a_merged_model_must_answer_as_the_adapter_does() -> None:
    merged = section(spec={"hyperparameters": {"maxSteps": 2}, "saveMethod": "merged_16bit"})
    assert problems(merged, found(verification={"difference": 0.01})) == []
    (problem,) = problems(merged, found(verification={"difference": 0.06}))
    assert "differ by 0.060" in problem
    assert problems(merged, found()) == ["the merged model was not compared with the adapter"]


def test_two_runs_agree_from_a_step_on() -> None:
    agreement = Agreement("both", "a", "b", first=2, losses=0.02, norms=0.02)
    one = {"steps": [step(1), step(2)]}
    assert disagreements(agreement, one, {"steps": [step(1, loss=9.0), step(2, loss=5.01, gradNorm=0.505)]}) == []
    other = {"steps": [step(1), step(2, loss=5.05, gradNorm=0.52)]}
    losses, norms = disagreements(agreement, one, other)
    assert losses == "step 2: loss 5.0000 and 5.0500; at most 0.02 apart"
    assert norms == "step 2: gradient norm 0.5000 and 0.5200; at most 2% apart"


def test_every_section_is_a_valid_job_and_has_a_name_of_its_own() -> None:
    make, checks, measured = plan(quick=False)
    sections = [each for lane in (make, *checks, *measured) for each in lane.sections]
    names = {each.name for each in sections}
    assert len(names) == len(sections)
    assert {name for agreement in AGREEMENTS for name in (agreement.one, agreement.other)} <= names
    specs = {each.name: effective(each, quick=False) for each in sections if each.kind != "make" and each.needs is None}
    assert len({spec.output_dir for spec in specs.values()}) == len(specs)
    timed = [specs[each.name] for lane in measured for each in lane.sections if each.timed]
    assert {spec.quantization for spec in timed} == {"4bit"}
    assert {spec.backend for spec in timed} == {"unsloth", "transformers"}
    for spec in timed:
        h = spec.hyperparameters
        assert h and (h.batch_size or 0) * (h.gradient_accumulation_steps or 0) == 8


def test_without_a_gpu_the_same_sections_are_run_or_skipped_with_a_reason() -> None:
    full, on_a_cpu = ([make, *checks, *measured] for make, checks, measured in (plan(quick=False), plan(quick=True)))
    names = [{each.name for lane in lanes for each in lane.sections} for lanes in (full, on_a_cpu)]
    assert names[0] == names[1]
    needing = {each.name for lane in on_a_cpu for each in lane.sections if each.skipped}
    assert needing == {
        *(f"{backend}: vision, {bits}-bit" for backend in ("unsloth", "transformers") for bits in (8, 16)),
        *(f"{backend}: a base model of 4-bit weights" for backend in ("unsloth", "transformers")),
        *(f"{backend}: too little memory for the batch" for backend in ("unsloth", "transformers")),
        *(f"{backend}: memory that runs out" for backend in ("unsloth", "transformers")),
        "transformers: merged_4bit",
        "a base model of 4-bit weights",
    }


def test_the_formula_counts_what_torch_counts() -> None:
    """One forward and backward pass of a 3B text model with adapters on every projection, on torch's meta device."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode

    tokens = 64
    with torch.device("meta"):
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = get_peft_model(on_meta(QWEN2_5_3B), LoraConfig(r=16, target_modules=targets))
        ids = torch.zeros(1, tokens, dtype=torch.long)
        with FlopCounterMode(display=False) as counted:
            model(input_ids=ids, labels=ids).loss.backward()
    adapters = estimate(effective_spec(TrainingJobSpec.model_validate(SPEC), "job"), QWEN2_5_3B).trained_parameters
    reckoned = step_flops(read_model(QWEN2_5_3B), adapters, Work(tokens, trained=tokens, pictured=0, patches=0))
    assert reckoned == pytest.approx(counted.get_total_flops(), rel=0.02)


def test_pictures_pass_a_frozen_tower_once_and_only_trained_tokens_reach_the_head() -> None:
    model, adapters = read_model(QWEN2_5_VL_3B), estimate(VISION, QWEN2_5_VL_3B).trained_parameters

    def flops(trained: int = 0, pictured: int = 0, patches: int = 0) -> float:
        return step_flops(model, adapters, Work(0, trained, pictured, patches))

    assert flops(trained=1) == 4 * 151_936 * 2048
    block = 4 * 1280**2 + 3 * 1280 * 3420  # attention's qkv and output, MLP's gate, up and down
    assert flops(patches=1) == 2 * 32 * block
    assert flops(pictured=1) == 2 * (5120 * 5120 + 5120 * 2048)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", 181),
        ("NVIDIA L4", 121),
    ],
)
def test_the_peak_of_a_card_is_found_by_the_name_that_the_driver_gives_it(name: str, tflops: float) -> None:
    assert peak_flops(name) == 1e12 * tflops


def test_a_card_that_the_table_lacks_has_no_peak() -> None:
    assert peak_flops("NVIDIA GeForce GTX 1080") is None


def test_the_random_model_has_the_real_ones_parameters(tiny_model) -> None:  # type: ignore[no-untyped-def]
    from tools.gpu_check.models import resized

    config = resized(json.loads((tiny_model("qwen2_5_vl") / "config.json").read_text()), QWEN2_5_VL_3B)
    real = read_model(QWEN2_5_VL_3B).parameters
    assert read_model(config).parameters == real
    assert sum(parameter.numel() for parameter in on_meta(config).parameters()) == real


def test_a_section_that_fails_is_told_with_its_log_and_the_rest_is_run(tmp_path: Path) -> None:
    rows: list[Row] = []
    sections = [
        Section(
            "broken", "train", 120, {"baseModel": "./m", "datasetPath": "./d", "backend": "auto", "saveMethod": "other"}
        ),
        Section("slow", "make", 0, {"make": "small"}),
        Section("last", "train", 120, needs="noSuchField"),
    ]
    runs = lanes.Runs(
        folder=tmp_path,
        out=tmp_path,
        deadline=time.monotonic() + 600,
        quick=True,
        environment=lanes.environment(None, quick=True, folder=tmp_path),
        tell=lambda row, said: rows.append(row),
    )
    lanes.run(Lane("lane", sections), runs)
    assert [(row.section, row.result) for row in rows] == [
        ("broken", "failed"),
        ("slow", "failed"),
        ("last", "skipped"),
    ]
    broken, slow, last = rows
    assert "ValidationError" in broken.problems[0] and "saveMethod" in "\n".join(broken.log)
    assert "over its limit of 0 s" in slow.problems[0]
    assert last.problems == ["the spec has no field noSuchField"]


@pytest.mark.train
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not UNSLOTH_PYTHON.exists(), reason="needs the environment that `make test` makes for it")
def test_the_check_runs_on_tiny_models(tmp_path: Path) -> None:
    done = check(
        UNSLOTH_PYTHON,
        *("--quick", "--out", str(tmp_path)),
        *("--only", "vision, packed|DPO|GRPO|step time, transformers: packed|plain .*: 8 x 1"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["section"]: row for row in map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())}
    for backend in ("unsloth", "transformers"):
        figures = rows[f"{backend}: vision, packed"]["found"]
        assert figures["backend"] == backend and figures["changedAdapters"] == figures["adapters"] > 0
    assert rows["both backends, packed"]["result"] == "passed"
    report = (tmp_path / "report.md").read_text()
    assert "| step time, transformers: packed | packed |" in report
    assert "| step time, plain Unsloth: 8 x 1 | 8 x 1" in report and "| step time, plain TRL: 8 x 1 " in report


def test_a_folder_without_the_packages_is_refused(tmp_path: Path) -> None:
    done = check(sys.executable, "--quick", "--out", str(tmp_path), "--packages", str(tmp_path))
    assert done.returncode == 2 and "no folder of make gpu-wheels" in done.stderr
    assert not list(tmp_path.iterdir())
