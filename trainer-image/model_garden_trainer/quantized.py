"""Whether a model is held as it was asked to be: where bitsandbytes does not work, some loaders go on in 16 bit."""

from __future__ import annotations

from typing import Any

from model_garden_trainer.errors import TrainingError

LAYERS = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}


def assert_quantized(model: Any, quantization: str | None) -> None:
    """Look for the layers of ``quantization``.

    Raises:
        TrainingError: InvalidModel where there is none.
    """
    kind = LAYERS.get(quantization or "")
    if kind and not any(type(module).__name__ == kind for module in model.modules()):
        raise TrainingError(
            "InvalidModel",
            f"spec.quantization: {quantization}, but the model was loaded without a {kind} layer, so bitsandbytes does "
            "not work here; use quantization: 16bit, or mend it (python -m bitsandbytes says what is wrong)",
        )
