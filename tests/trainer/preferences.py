"""Rows of preferences for tests: short texts, of which one kind is always preferred."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped
from tests.trainer.workspace import Workspace

COLORS = ("red", "blue")
LETTERS = """
def letters(prompts, completions, **columns):
    return [sum(letter.isalpha() and letter.isascii() for letter in text) / max(len(text), 1) for text in completions]
"""


def preference_rows(count: int) -> list[dict[str, Any]]:
    """``count`` rows of a prompt, a short answer that is chosen and a long one that is rejected."""
    return [
        {"prompt": f"Name color {n}.", "chosen": COLORS[n % 2], "rejected": "I do not want to say."}
        for n in range(count)
    ]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write ``rows`` as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@contextmanager
def stopping_in_step(step: int, requests: StopRequests) -> Iterator[None]:
    """Within it, the stop is asked for in the middle of a step, whatever is reported when."""
    from model_garden_trainer.engine.instrumented import Instrumented

    original, seen = Instrumented.get_batch_samples, iter(range(1, 100))

    def counted(self: Any, *args: Any) -> Any:
        if next(seen) == step:
            requests.stop = True
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Instrumented, "get_batch_samples", counted)
        yield


def assert_a_resumed_run_equals(workspace: Workspace, whole: str, broken: TrainerConfig) -> None:
    """Stop ``broken`` in its third step and resume it: its figures and weights are those of the output ``whole``."""
    import torch  # after the variables of the tests are set

    requests = StopRequests()
    with pytest.raises(Stopped) as stopped, stopping_in_step(3, requests):
        workspace.train(broken, requests=requests)
    assert stopped.value.checkpoint_step == 3
    _, rest = workspace.train(broken)
    assert rest.resumed == [3]
    figures = ("step", "loss", "evalLoss", "metrics")
    kept = [[line.get(key) for key in figures] for line in workspace.metrics(broken.name)]
    assert kept == [[line.get(key) for key in figures] for line in workspace.metrics(whole)]
    one, other = workspace.adapter(whole), workspace.adapter(broken.name)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
