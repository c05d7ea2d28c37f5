"""The table of failure reasons is whole, and everything that depends on an exit code follows from it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from model_garden.contract.reasons import EXIT_CODES, NO_RETRY, REASONS, TrainerReason, reason_of_exit_code

ROOT = Path(__file__).parents[2]


def test_each_reason_stands_once_and_says_what_to_do() -> None:
    names = [reason.name for reason in REASONS]
    assert sorted(set(names)) == sorted(names)
    assert all(reason.action.endswith(".") for reason in REASONS)


def test_what_a_trainer_may_raise_has_an_exit_code() -> None:
    assert set(get_args(TrainerReason)) == set(EXIT_CODES)


def test_an_exit_code_is_retried_for_all_its_reasons_or_for_none() -> None:
    for code in set(EXIT_CODES.values()):
        assert len({reason.retried for reason in REASONS if reason.exit_code == code}) == 1


def test_the_exit_codes_that_are_promised() -> None:
    assert NO_RETRY == [2, 3, 4, 5, 6, 7]
    assert [reason_of_exit_code(code) for code in (2, 3, 4, 5, 6, 7, 8, 9)] == [
        "InvalidSpec",
        "InvalidDataset",
        "ModelNotFound",
        "OutOfMemory",
        "LossIsNaN",
        "ExportFailed",
        "WorkerLost",
        "HubUnreachable",
    ]


@pytest.mark.parametrize("code", [None, 1, 137, 143, 255])
def test_an_exit_code_without_a_reason_is_the_trainers_error(code: int | None) -> None:
    assert reason_of_exit_code(code) == "TrainerError"


def test_every_reason_that_the_controller_can_fail_a_job_for_is_in_the_table() -> None:
    source = (ROOT / "operator/model_garden/controller/pod_reasons.py").read_text()
    waits = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    given = [[arg.value for arg in call.args if isinstance(arg, ast.Constant)] for call in waits]
    final = {texts[1] for texts in given if len(texts) > 1 and texts[0] in ("Missing", "Image", "Refused")}
    assert final and final <= {reason.name for reason in REASONS}
