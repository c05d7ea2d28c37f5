"""How a job that is followed is concluded."""

from typing import Any

import pytest

from model_garden.cli.follow import conclude


def ended(phase: str, message: str) -> dict[str, Any]:
    condition = {"type": "Running", "status": "False", "message": message}
    return {"metadata": {"name": "a"}, "spec": {}, "status": {"phase": phase, "conditions": [condition]}}


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("Failed", "error: a failed: the model is not there"),
        ("Cancelled", "error: a was cancelled: the model is not there"),
    ],
)
def test_the_end_is_a_sentence(phase: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as code:
        conclude(ended(phase, "the model is not there"))
    assert code.value.code == 1
    assert said in capsys.readouterr().err
