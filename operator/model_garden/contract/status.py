"""TrainingJobStatus: what the operator writes back. Conditions carry the truth; ``phase`` is derived, for people."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from model_garden.contract.memory_estimate import Estimate
from model_garden.contract.model import Report

Phase = Literal[
    "Pending", "Preparing", "Queued", "Starting", "Running", "Suspended", "Succeeded", "Failed", "Cancelled"
]
ConditionType = Literal["Reconciling", "Stalled", "Queued", "Running", "Complete", "Failed", "Finished"]
EndReason = Literal["Completed", "Preempted", "Evicted", "Error", "Stopped"]

MAX_ATTEMPTS = 10
MAX_HISTORY = 64


class Condition(Report):
    """A ``metav1.Condition``."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)
    message: str = Field(max_length=32_768)
    observed_generation: int | None = None
    last_transition_time: str


class Progress(Report):
    """The latest figures of a run. Times are seconds; ``percent`` is 0 to 100; memory is the peak, in GiB."""

    step: int = Field(ge=0)
    total_steps: int = Field(ge=0)
    epoch: float | None = None
    percent: float | None = None
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    seconds_per_step: float | None = None
    data_seconds: float | None = None
    forward_seconds: float | None = None
    backward_seconds: float | None = None
    optimizer_seconds: float | None = None
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    gpu_memory_gib: float | None = Field(None, alias="gpuMemoryGiB")
    estimated_completion_time: str | None = None
    last_report_time: str | None = None


class HistoryPoint(Report):
    """One point of the curves."""

    step: int
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None


class TokenLengths(Report):
    """Lengths of examples in tokens, pictures included."""

    median: int
    p95: int
    maximum: int


class DatasetStatus(Report):
    """What was measured of the data set. ``measuredBy`` is ``Preflight`` or ``Trainer``."""

    rows: int
    validation_rows: int | None = None
    images: int | None = None
    tokens: TokenLengths | None = None
    measured_by: Literal["Preflight", "Trainer"] | None = None


class Attempt(Report):
    """One pod of the job: where it ran, from which step to which, and why it ended."""

    pod: str
    node: str | None = None
    reason: EndReason | None = None
    message: str | None = None
    exit_code: int | None = None
    from_step: int | None = None
    to_step: int | None = None
    start_time: str | None = None
    end_time: str | None = None


class SampleScores(Report):
    """How a few rows were answered by the base model and by the trained one: 0 (nothing alike) to 1 (all exact).

    ``heldOut`` tells validation rows, which training never saw, from training rows.
    """

    rows: int
    held_out: bool
    exact_match_before: float
    exact_match_after: float
    similarity_before: float
    similarity_after: float


class OutputStatus(Report):
    """Where the model is. Paths are relative to the workspace; ``verified`` means it was reloaded and answered."""

    path: str
    adapter_path: str | None = None
    merged_path: str | None = None
    gguf_path: str | None = None
    hub_url: str | None = None
    size_bytes: int | None = None
    trained_steps: int | None = None
    final_loss: float | None = None
    verified: bool | None = None
    samples: SampleScores | None = None


class Failure(Report):
    """Why the job failed, with the fix in the message."""

    reason: str
    message: str
    exit_code: int | None = None
    log_tail: list[str] | None = None


class TrainingJobStatus(Report):
    """The whole status. From ``preflightCompletionTime`` on there are only training Jobs."""

    phase: Phase | None = None
    conditions: list[Condition] | None = None
    effective_spec: dict[str, Any] | None = None
    progress: Progress | None = None
    history: list[HistoryPoint] | None = Field(None, max_length=MAX_HISTORY)
    dataset: DatasetStatus | None = None
    estimate: Estimate | None = None
    attempts: list[Attempt] | None = Field(None, max_length=MAX_ATTEMPTS)
    output: OutputStatus | None = None
    failure: Failure | None = None
    job_name: str | None = None
    pod_name: str | None = None
    last_checkpoint_step: int | None = None
    preflight_completion_time: str | None = None
    start_time: str | None = None
    completion_time: str | None = None
    observed_generation: int | None = None
