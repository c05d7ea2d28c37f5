"""The formulas of work against PyTorch itself: a step of a small model is run, and what is alive at once is added up.

Run on a CPU with the settings that a GPU gets (bfloat16, float32 adapters, gradient checkpointing), so that the
coefficients in ``memory.py`` are checked without one; what a GPU's kernels and allocator add is not seen here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from peft.helpers import disable_input_dtype_casting
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from model_garden.contract.defaults import effective_spec
from model_garden.contract.memory_estimate import Estimate, RowShape
from model_garden.contract.spec import TrainingJobSpec
from model_garden.estimate.estimate import estimate
from model_garden_trainer.models.backends.transformers import recompute_layers
from testing.model_configs import Config, qwen2_5_vl, text
from tests.contract.cases import NO_GPU
from tests.tiny import tiny_model

__all__ = ["tiny_model"]

LANGUAGE = r".*layers\.\d+\..*_proj"
VISION = r".*blocks\.\d+\..*(qkv|proj|linear_fc1|linear_fc2)"


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that were made while it is on: ``now`` alive, ``peak`` at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in before and storage not in self._seen:
                    self._seen[storage] = True
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._drop, storage.nbytes())
        return out

    def _drop(self, count: int) -> None:
        self.now -= count


def job(*, vision: bool = False, tower: bool = False, gpu: bool = True) -> Any:
    given: dict[str, Any] = {"baseModel": "org/model", "datasetPath": "./d", "hyperparameters": {"batchSize": 1}}
    given |= {"isVision": vision, "quantization": "16bit" if gpu else "none", "backend": "transformers"}
    if tower:
        given["loraConfig"] = {"finetuneVisionLayers": True}
    return effective_spec(TrainingJobSpec.model_validate(given | ({} if gpu else {"resources": NO_GPU})), "job")


@contextmanager
def as_trained(model: Any, *, gpu: bool) -> Iterator[None]:
    """Within it a model with adapters runs as the loop lets it run."""
    if not gpu:
        yield
        return
    recompute_layers(model)
    with disable_input_dtype_casting(model), torch.autocast("cpu", dtype=torch.bfloat16):
        yield


def sizes(result: Estimate) -> dict[str, float]:
    return {part.name: part.size_gib * 2**30 for part in result.parts}


LLAMA = text("llama", 256, 768, 4, 4, 2, 64) | {"head_dim": 64, "tie_word_embeddings": False}
NARROW = LLAMA | {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 8}
WIDE = LLAMA | {"intermediate_size": 2048, "num_hidden_layers": 2}


@pytest.mark.parametrize("config", [LLAMA, NARROW, WIDE], ids=["usual", "narrow attention", "wide MLP"])
@pytest.mark.parametrize("gpu", [True, False], ids=["GPU", "CPU"])
def test_a_language_models_activations(config: Config, gpu: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens = 1024
    model = LlamaForCausalLM._from_config(LlamaConfig(**config), dtype=torch.bfloat16 if gpu else torch.float32)
    model.config.use_cache = False
    model = get_peft_model(model, PeftLoraConfig(r=16, target_modules=LANGUAGE)).train()
    trained = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    ids = torch.zeros(1, tokens, dtype=torch.long)
    with LiveBytes() as live, as_trained(model, gpu=gpu):
        model(input_ids=ids, labels=ids).loss.backward()

    result = sizes(estimate(job(gpu=gpu), config, rows=RowShape(tokens=tokens)))
    estimated = result["activations"] + result["working memory"]
    # gradients of adapters are alive too, those of one layer at least when the peak is reached
    assert estimated == pytest.approx(live.peak - (trained if not gpu else 0), rel=0.2)


@pytest.mark.parametrize("gpu", [True, False], ids=["GPU", "CPU"])
def test_what_dora_adds_to_a_language_models_activations(gpu: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens, peaks = 1024, []
    for dora in (False, True):
        model = LlamaForCausalLM._from_config(LlamaConfig(**WIDE), dtype=torch.bfloat16 if gpu else torch.float32)
        model.config.use_cache = False
        model = get_peft_model(model, PeftLoraConfig(r=16, target_modules=LANGUAGE, use_dora=dora)).train()
        ids = torch.zeros(1, tokens, dtype=torch.long)
        with LiveBytes() as live, as_trained(model, gpu=gpu):
            model(input_ids=ids, labels=ids).loss.backward()
        peaks.append(live.peak)

    plain = job(gpu=gpu)
    dora = plain.model_copy(update={"lora_config": plain.lora_config.model_copy(update={"use_dora": True})})
    totals = []
    for each in (plain, dora):
        parts = sizes(estimate(each, WIDE, rows=RowShape(tokens=tokens)))
        totals.append(sum(parts[name] for name in ("activations", "working memory")))
    assert totals[1] - totals[0] == pytest.approx(peaks[1] - peaks[0], rel=0.3)


@pytest.mark.parametrize("tower", [False, True], ids=["frozen", "adapted"])
@pytest.mark.parametrize("gpu", [True, False], ids=["GPU", "CPU"])
def test_a_vision_towers_activations(gpu: bool, tower: bool) -> None:
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    config = qwen2_5_vl(256, 512, 1, 4, 2, vocab_size=64)
    vision = config["vision_config"] | {"depth": 4, "hidden_size": 320, "intermediate_size": 856, "num_heads": 4}
    config["vision_config"] = vision
    dtype = torch.bfloat16 if gpu else torch.float32
    known = {key: value for key, value in vision.items() if key != "in_chans"} | {"fullatt_block_indexes": [3]}
    model: Any = Qwen2_5_VisionTransformerPretrainedModel._from_config(Qwen2_5_VLVisionConfig(**known), dtype=dtype)
    model.train().requires_grad_(False)
    model = get_peft_model(model, PeftLoraConfig(r=16, target_modules=VISION))
    if not tower:
        model.requires_grad_(False)
    trained = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    side = 32
    pixels = torch.randn(side * side, 3 * 2 * 14 * 14, dtype=dtype)
    with LiveBytes() as live, as_trained(model, gpu=gpu):
        out = model(pixels, torch.tensor([[1, side, side]]))
        out = getattr(out, "pooler_output", out)
        if out.requires_grad:
            out.float().mean().backward()

    rows = RowShape(tokens=side * side // 4 + 1, trained_tokens=1, image_tokens=side * side // 4)
    result = sizes(estimate(job(vision=True, tower=tower, gpu=gpu), config, rows=rows))
    estimated = result.get("vision activations", 0.0) + result["working memory"]
    assert estimated == pytest.approx(live.peak - (trained if tower and not gpu else 0), rel=0.25)


RSS_PROBE = """
import gc, json, resource, sys
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))

libraries = resident("VmRSS")
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation="sdpa")
model.config.use_cache = False
model = get_peft_model(model, LoraConfig(r=16, target_modules=sys.argv[2])).train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])

def step(rows, tokens):
    ids = torch.ones(rows, tokens, dtype=torch.long)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()

step(1, 16)
gc.collect()
before = resident("VmRSS")
with open("/proc/self/clear_refs", "w") as references:
    references.write("5")  # the peak starts again from here
step(int(sys.argv[3]), int(sys.argv[4]))
print(json.dumps({"libraries": libraries, "growth": resident("VmHWM") - before}))
"""


@pytest.mark.train
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_processs_resident_memory_on_a_cpu(tiny_model: Callable[[str], Path]) -> None:
    """A step of a tiny model on 16 x 1024 tokens: what the process grows by is within 30% of the estimate."""
    folder = tiny_model("qwen2")
    config = json.loads((folder / "config.json").read_text())
    command = [sys.executable, "-c", RSS_PROBE, str(folder), LANGUAGE, "16", "1024"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])

    spec = job(gpu=False)
    spec.hyperparameters.batch_size = 16
    result = sizes(estimate(spec, config, rows=RowShape(tokens=1024)))
    grown = sum(result[name] for name in ("activations", "working memory", "fragmentation"))
    assert grown == pytest.approx(measured["growth"], rel=0.3)
    assert result["libraries"] == pytest.approx(measured["libraries"], rel=0.3)
