"""The GPU benchmark: its arithmetic, and the script itself with a tiny model on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.flops import Work, peak_flops, step_flops
from benchmarks.gpu_step_case import real_config
from benchmarks.gpu_step_time import cases, job, run_case
from model_garden.contract.defaults import effective_spec
from model_garden.contract.spec import TrainingJobSpec
from model_garden.estimate.estimate import estimate
from model_garden.estimate.model_shape import read_model
from testing.model_configs import QWEN2_5_3B, QWEN2_5_VL_3B
from tests.estimate.test_model_shape import on_meta
from tests.tiny import tiny_model

__all__ = ["tiny_model"]

ROOT = Path(__file__).parents[2]
SPEC = {"baseModel": "./m", "datasetPath": "./d.jsonl"}
VISION = effective_spec(TrainingJobSpec.model_validate(SPEC | {"isVision": True}), "job")


def measure(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_step_time", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


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
    config = real_config(json.loads((tiny_model("qwen2_5_vl") / "config.json").read_text()))
    real = read_model(QWEN2_5_VL_3B).parameters
    assert read_model(config).parameters == real
    assert sum(parameter.numel() for parameter in on_meta(config).parameters()) == real


def test_on_a_gpu_every_case_is_4_bit_with_an_effective_batch_of_8() -> None:
    specs = {case.name: job(case, Path("/w"), 5, gpu=True) for case in cases(quick=False)}
    assert {spec.quantization for spec in specs.values()} == {"4bit"}
    assert {spec.backend for spec in specs.values()} == {"unsloth", "transformers"}
    assert len({spec.output_dir for spec in specs.values()}) == len(specs) == 7
    for spec in specs.values():
        h = spec.hyperparameters
        assert h and (h.batch_size or 0) * (h.gradient_accumulation_steps or 0) == 8


def test_without_a_gpu_it_says_so() -> None:
    done = measure()
    assert done.returncode == 2
    assert "no GPU" in done.stderr and "--quick" in done.stderr


def test_a_case_that_fails_is_told_by_its_last_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = job(cases(quick=False)[0], tmp_path, 2, gpu=True)
    said = run_case(
        "ours", spec.to_dict(), tmp_path, os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    )
    assert isinstance(said, str) and "spec.backend: unsloth needs a GPU" in said
    assert said in capsys.readouterr().err


@pytest.mark.train
def test_the_whole_script_runs_on_a_tiny_model() -> None:
    done = measure("--quick", "--steps", "2", "--only", "1 x 8")
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    header, _, *rows = lines
    assert [row[0] for row in rows] == ["transformers, 1 x 8", "plain TRL, 1 x 8"]
    for row in rows:
        found = dict(zip(header, row, strict=True))
        assert found["batch"] == "1 x 8" and found["of peak"] == ""
        assert all(float(found[name]) > 0 for name in ("s/step", "data", "forward", "backward", "samples/s"))
        assert float(found["GiB training"]) >= float(found["GiB loading"]) > 0
    assert "512 of them pictures'" in done.stdout  # 8 pictures of 224 x 224, 64 tokens each
