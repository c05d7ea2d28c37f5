"""A vision model answers as before with what the collator computed for its tower, and with another attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from model_garden.contract.defaults import effective_spec
from model_garden.contract.spec import TrainingJobSpec
from model_garden_trainer.batches import vision_inputs
from model_garden_trainer.batches.splits import open_data
from model_garden_trainer.batches.vision_inputs import WithVisionInputs, keep_from_language_model
from model_garden_trainer.models import auto_classes, vision_attention

pytestmark = pytest.mark.train

DATA = Path(__file__).parents[2] / "data" / "vision_test_dataset.jsonl"


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def model(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Any:
    return AutoModelForImageTextToText.from_pretrained(tiny_model(request.param), attn_implementation="sdpa").eval()


def batch_of(model: Any) -> tuple[Any, list[Any]]:
    """The collator, and rows of which the shorter ones are padded."""
    folder = Path(model.name_or_path)
    spec = effective_spec(
        TrainingJobSpec.model_validate({"baseModel": str(folder), "datasetPath": str(DATA), "isVision": True}),
        "x",
        local_gpus=0,
    )
    encoder = auto_classes.collator(spec, folder)
    training = open_data(spec, 0).training
    return encoder, [training[index] for index in range(3)]


def test_logits_are_the_same_with_inputs_that_the_collator_computed(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, rows = batch_of(model)
    plain, given = encoder(rows), WithVisionInputs(encoder, model.config)(rows)
    keep_from_language_model(model)
    seen: set[str] = set()
    model.get_decoder().layers[0].register_forward_pre_hook(lambda _, __, kwargs: seen.update(kwargs), with_kwargs=True)
    with torch.no_grad():
        before = model(**plain).logits
        for name in ("get_vision_position_ids", "get_vision_cu_seqlens", "get_vision_window_index"):
            monkeypatch.setattr(vision_inputs, name, None)  # what was computed is used, and nothing is computed again
        monkeypatch.setattr(type(model.model), "get_rope_index", None)
        after = model(**given).logits
    assert torch.equal(before, after)
    assert not any(name.startswith(vision_inputs.PREFIX) for name in seen)


def sdpa_by_lengths(q: Any, k: Any, v: Any, starts: Any, _: Any, longest: int, __: int, *, scale: float) -> Any:
    """The arithmetic of ``varlen_attn``, which runs on a GPU alone."""
    assert longest == int(starts.diff().max())
    parts = [
        torch.nn.functional.scaled_dot_product_attention(
            *(part[start:end].transpose(0, 1)[None] for part in (q, k, v)), scale=scale
        )[0].transpose(0, 1)
        for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    return torch.cat(parts)


def test_a_tower_with_variable_length_attention_gives_the_same_logits(
    model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, rows = batch_of(model)
    inputs = WithVisionInputs(encoder, model.config)(rows)
    with torch.no_grad():
        before = model(**inputs).logits
        assert vision_attention.switch(model, sdpa_by_lengths)
        assert torch.allclose(model(**inputs).logits, before, atol=1e-5)
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    assert "uses variable-length attention" in capsys.readouterr().err


def wrong(q: Any, *_: Any, **__: Any) -> Any:
    return q


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no kernel image is available for execution on the device")


@pytest.mark.parametrize(("kernel", "words"), [(wrong, "its outputs differ by"), (broken, "no kernel image")])
def test_a_kernel_that_fails_or_computes_something_else_is_not_used(
    model: Any, kernel: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, rows = batch_of(model)
    with torch.no_grad():
        before = model(**encoder(rows)).logits
        assert not vision_attention.switch(model, kernel)
        assert torch.equal(model(**encoder(rows)).logits, before)
    assert words in capsys.readouterr().err
