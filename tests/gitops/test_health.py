"""The health of a TrainingJob in every phase, as kstatus, Flux and Argo CD compute it from the operator's status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from model_garden.contract.crd import NOT_OBSERVED
from model_garden.contract.names import API_VERSION, KIND
from model_garden.contract.status import TrainingJobStatus
from model_garden.controller.status import invalid, next_status, with_generation
from model_garden.controller.trainer_events import Training
from model_garden.controller.verdict import judge as verdict_of
from tests.controller import builders as b
from tests.controller.builders import AT_7, BAD, DONE, NEW, OURS, QUEUE, observation, status
from tests.gitops.tools import Judgement, Object, judge

pytestmark = pytest.mark.cluster  # their tools are built as the cluster's programs are

CANCEL = {"annotations": {"model-garden.dev/cancel": "true"}}


def preflight(job: Object, *pods: Object) -> TrainingJobStatus:
    seen = replace(observation(job, *pods), plan=replace(b.plan(), step="preflight"))
    return next_status(seen, verdict_of(seen, missing_seconds=300))


def queued(*, served: bool) -> TrainingJobStatus:
    """Suspended by Kueue, or for ever where no Kueue is installed."""
    seen = replace(observation(b.job(suspend=True, **QUEUE), **QUEUE), kueue_served=served)
    return next_status(seen, verdict_of(seen, missing_seconds=300))


NO_CLAIM = b.unscheduled('persistentvolumeclaim "rows" not found')
SUCCEEDED = status(b.job("Complete"), b.ended(0, DONE))
STATUSES: dict[str, tuple[TrainingJobStatus, str, str, str]] = {
    # what the operator's code makes of the facts; kstatus, Flux's health check, Argo CD's health
    "not seen": (TrainingJobStatus(observed_generation=NOT_OBSERVED), "InProgress", "InProgress", "Progressing"),
    "Pending, no Job": (status(None), "InProgress", "InProgress", "Progressing"),
    "Pending, no GPU": (
        status(b.job(), b.unscheduled("1 Insufficient nvidia.com/gpu")),
        "Current",
        "InProgress",
        "Progressing",
    ),
    "Pending, no claim": (status(b.job(), NO_CLAIM), "Failed", "Failed", "Degraded"),
    "Preparing, starts": (preflight(b.job()), "InProgress", "InProgress", "Progressing"),
    "Preparing": (preflight(b.job(), b.running()), "Current", "InProgress", "Progressing"),
    "Pending, preflight succeeded": (
        preflight(b.job("Complete"), b.ended(0)),
        "InProgress",
        "InProgress",
        "Progressing",
    ),
    "Queued": (queued(served=True), "Current", "InProgress", "Progressing"),
    "Queued, no Kueue": (queued(served=False), "Failed", "Failed", "Degraded"),
    "Starting": (status(b.job()), "InProgress", "InProgress", "Progressing"),
    "Starting, no image": (status(b.job(), b.waiting("ImagePullBackOff")), "Failed", "Failed", "Degraded"),
    "Running": (
        status(b.job(), b.running(), training=Training(progress=AT_7, stage="training")),
        "Current",
        "InProgress",
        "Progressing",
    ),
    "Running, canceled": (status(b.job(), b.running(), **CANCEL), "Current", "InProgress", "Progressing"),
    "Starting, retry": (status(b.job(), b.ended(1)), "InProgress", "InProgress", "Progressing"),
    "Suspended": (status(b.job(suspend=True, **OURS), suspend=True), "Current", "InProgress", "Suspended"),
    "Suspended, no Job": (status(None, suspend=True, **QUEUE), "Current", "InProgress", "Suspended"),
    "Suspended by others": (status(b.job(suspend=True)), "Current", "InProgress", "Suspended"),
    "Succeeded": (SUCCEEDED, "Current", "Current", "Healthy"),
    "Failed": (
        status(b.job("Failed", reason="PodFailurePolicy"), b.ended(3, BAD)),
        "Failed",
        "Failed",
        "Degraded",
    ),
    "Failed, invalid": (invalid(NEW, ["spec.a: wrong"], b.at()), "Failed", "Failed", "Degraded"),
    "Cancelled": (status(None, **CANCEL), "Current", "Failed", "Degraded"),
}


def resource(found: TrainingJobStatus, **metadata: Any) -> Object:
    made = {"apiVersion": API_VERSION, "kind": KIND, **b.resource(), "status": found.to_dict()}
    return made | {"metadata": made["metadata"] | metadata}


@pytest.fixture(scope="module")
def judgements() -> Mapping[str, Judgement]:
    """Of all statuses at once."""
    return dict(zip(STATUSES, judge([resource(found) for found, *_ in STATUSES.values()]), strict=True))


@pytest.mark.parametrize("name", STATUSES)
def test_each_tool_sees_the_phase(name: str, judgements: Mapping[str, Judgement]) -> None:
    found, (given, *expected) = judgements[name], STATUSES[name]
    assert given.phase is None or name.startswith(given.phase) or "canceled" in name
    assert [found.kstatus, found.flux, found.health] == expected


def test_every_phase_is_tried() -> None:
    from typing import get_args

    from model_garden.contract.status import Phase

    assert {found.phase for found, *_ in STATUSES.values()} - {None} == set(get_args(Phase))


def test_the_tools_show_the_sentence_of_the_status(judgements: Mapping[str, Judgement]) -> None:
    assert judgements["Running"].health_message == "training (step 7 of 10)"
    assert "rows.jsonl row 7: no answer" in judgements["Failed"].health_message
    assert judgements["Failed"].kstatus_message == judgements["Failed"].health_message
    assert "PersistentVolumeClaim 'rows' does not exist" in judgements["Pending, no claim"].health_message
    assert "annotation model-garden.dev/cancel" in judgements["Cancelled"].health_message
    assert all(found.health_message for found in judgements.values())


def test_a_change_that_the_operator_has_not_seen_is_in_progress_and_then_as_before() -> None:
    changed = resource(SUCCEEDED, generation=2)
    seen = resource(with_generation(SUCCEEDED, replace(b.at(), generation=2)), generation=2)
    before, after = judge([changed, seen])
    assert (before.kstatus, before.flux, before.health) == ("InProgress", "InProgress", "Progressing")
    assert (after.kstatus, after.flux, after.health) == ("Current", "Current", "Healthy")


def test_the_actions_are_those_of_the_command_line(judgements: Mapping[str, Judgement]) -> None:
    from model_garden.services.actions import CHANGES

    assert judgements["Running"].actions == {kind: CHANGES[kind] for kind in ("suspend", "stop", "cancel")}
    [suspended] = judge([resource(STATUSES["Suspended"][0]) | {"spec": {"suspend": True}}])
    assert suspended.actions == {kind: CHANGES[kind] for kind in ("resume", "stop", "cancel")}
    for ended in ("Succeeded", "Failed", "Failed, invalid", "Cancelled"):
        assert judgements[ended].actions == {}, ended
