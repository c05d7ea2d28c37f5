"""docs/troubleshoot.md and docs/kueue.md explain every reason that a TrainingJob can show, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from model_garden.contract.reasons import REASONS
from model_garden.controller.kueue import DEACTIVATED
from tests.docs.blocks import ROOT

PACKAGE = ROOT / "operator" / "model_garden"
CONTROLLER = sorted((PACKAGE / "controller").glob("*.py"))
REASON_AT = {"Verdict": 1, "PendingReason": 1, "Told": 0, "post": 1}
"""Calls that take a reason, and its place among the arguments."""
REPORTED = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
"""Reasons of a node that the operator passes on."""
BY_KUEUE = {
    *("Pending", "Inadmissible", "Preempted", "PodsReadyTimeout", "AdmissionCheck", "NodeFailures"),
    *("ClusterQueueStopped", "LocalQueueStopped", "DeactivatedDueToRequeuingLimitExceeded"),
}
"""Reasons that Kueue writes into a Workload, which the operator passes on."""


def test_every_reason_of_the_code_is_explained() -> None:
    queue = set(_reasons(PACKAGE / "controller" / "kueue.py"))
    others = {reason for path in CONTROLLER if path.name != "kueue.py" for reason in _reasons(path)}
    here = others | set(_reasons(PACKAGE / "local" / "runner.py")) | {reason.name for reason in REASONS} | REPORTED
    assert _explained("troubleshoot.md", column=1) == here | {"KueueNotInstalled", "NoQueue"}
    assert _explained("kueue.md", column=2) == queue | BY_KUEUE | {
        DEACTIVATED,
        "AdmittedNotRunning",
        "SuspendedByOthers",
    }


def _explained(page: str, column: int) -> set[str]:
    """The CamelCase words in code in a column of the tables of a page."""
    rows = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("| ")]
    return {word for row in rows for word in re.findall(r"`([A-Z][a-z]\w+)`", row.split("|")[column])}


def _reasons(path: Path) -> Iterator[str]:
    """The reasons that a module gives, as they stand in its calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        place = REASON_AT.get(called)
        given = [*node.args[place : place + 1]] if place is not None else []
        given += [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
        for value in given:
            for part in ast.walk(value):
                if isinstance(part, ast.Constant) and re.fullmatch(r"[A-Z]\w+", str(part.value)):
                    yield str(part.value)
