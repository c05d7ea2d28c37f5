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
    """Kind of the condition."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds: True, False or Unknown."""
    reason: str = Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)
    """Why, as one CamelCase word for programs."""
    message: str = Field(max_length=32_768)
    """Why, as a sentence for people."""
    observed_generation: int | None = None
    """The metadata.generation that the condition is about."""
    last_transition_time: str
    """When status changed last."""


class Progress(Report):
    """The latest figures of a run. Times are seconds; ``percent`` is 0 to 100; memory is the peak, in GiB."""

    step: int = Field(ge=0)
    """Optimizer steps that are done."""
    total_steps: int = Field(ge=0)
    """Optimizer steps of the whole run."""
    epoch: float | None = None
    """Passes over the data set that are done."""
    percent: float | None = None
    """Share of the steps that are done, from 0 to 100."""
    loss: float | None = None
    """Mean training loss since the last report."""
    eval_loss: float | None = None
    """Loss of the last evaluation."""
    learning_rate: float | None = None
    """Learning rate of the last step."""
    grad_norm: float | None = None
    """Norm of the last step's gradients before clipping."""
    seconds_per_step: float | None = None
    """Seconds of an optimizer step."""
    data_seconds: float | None = None
    """Seconds of a step that were spent waiting for data."""
    forward_seconds: float | None = None
    """Seconds of a step that were spent in the forward pass."""
    backward_seconds: float | None = None
    """Seconds of a step that were spent in the backward pass."""
    optimizer_seconds: float | None = None
    """Seconds of a step that were spent in the optimizer."""
    samples_per_second: float | None = None
    """Rows trained in a second."""
    tokens_per_second: float | None = None
    """Tokens trained in a second."""
    gpu_memory_gib: float | None = Field(None, alias="gpuMemoryGiB")
    """Peak memory of a GPU, in GiB."""
    estimated_completion_time: str | None = None
    """When training is expected to end."""
    last_report_time: str | None = None
    """When the trainer reported last."""


class HistoryPoint(Report):
    """One point of the curves."""

    step: int
    """Optimizer step of the point."""
    loss: float | None = None
    """Training loss."""
    eval_loss: float | None = None
    """Loss of an evaluation."""
    learning_rate: float | None = None
    """Learning rate."""


class TokenLengths(Report):
    """Lengths of examples in tokens, pictures included."""

    median: int
    """Half of the rows are at most this long."""
    p95: int
    """95 percent of the rows are at most this long."""
    maximum: int
    """Length of the longest row."""


class DatasetStatus(Report):
    """What was measured of the data set. ``measuredBy`` is ``Preflight`` or ``Trainer``."""

    rows: int
    """Rows to train on."""
    validation_rows: int | None = None
    """Rows to evaluate on."""
    images: int | None = None
    """Images in all rows."""
    tokens: TokenLengths | None = None
    """Lengths of rows in tokens, image tokens included."""
    measured_by: Literal["Preflight", "Trainer"] | None = None
    """Who measured: the Preflight or the Trainer."""


class Attempt(Report):
    """One pod of the job: where it ran, from which step to which, and why it ended."""

    pod: str
    """Name of the pod."""
    node: str | None = None
    """Node that ran it."""
    reason: EndReason | None = None
    """Why it ended."""
    message: str | None = None
    """Why it ended, as a sentence."""
    exit_code: int | None = None
    """Exit code of its trainer."""
    from_step: int | None = None
    """First step that it trained."""
    to_step: int | None = None
    """Last step that it trained."""
    start_time: str | None = None
    """When its trainer started."""
    end_time: str | None = None
    """When it ended."""


class SampleScores(Report):
    """How a few rows were answered by the base model and by the trained one: 0 (nothing alike) to 1 (all exact).

    ``heldOut`` tells validation rows, which training never saw, from training rows.
    """

    rows: int
    """Rows that were answered."""
    held_out: bool
    """Whether they are validation rows, which were not trained on."""
    exact_match_before: float
    """Share of exact answers of the base model, from 0 to 1."""
    exact_match_after: float
    """Share of exact answers of the trained model, from 0 to 1."""
    similarity_before: float
    """Mean similarity of the base model's answers, from 0 to 1."""
    similarity_after: float
    """Mean similarity of the trained model's answers, from 0 to 1."""


class OutputStatus(Report):
    """Where the model is. Paths are relative to the workspace; ``verified`` means it was reloaded and answered."""

    path: str
    """Folder of the model, relative to the workspace."""
    adapter_path: str | None = None
    """Folder of the LoRA adapter."""
    merged_path: str | None = None
    """Folder of the merged model."""
    gguf_path: str | None = None
    """GGUF file."""
    hub_url: str | None = None
    """Address of the model on the Hub."""
    size_bytes: int | None = None
    """Size of the output in bytes."""
    trained_steps: int | None = None
    """Optimizer steps that the model was trained for."""
    final_loss: float | None = None
    """Training loss at the end."""
    verified: bool | None = None
    """Whether the output was loaded again and answered a row."""
    samples: SampleScores | None = None
    """How a few rows were answered before and after training."""


class Failure(Report):
    """Why the job failed, with the fix in the message."""

    reason: str
    """Why the job failed; docs/status.md lists the reasons."""
    message: str
    """What is wrong, and the fix."""
    exit_code: int | None = None
    """Exit code of the trainer."""
    log_tail: list[str] | None = None
    """Last lines of the failed pod's log."""


class TrainingJobStatus(Report):
    """The whole status. From ``preflightCompletionTime`` on there are only training Jobs."""

    phase: Phase | None = None
    """Where the job stands, derived from the conditions."""
    conditions: list[Condition] | None = None
    """Conditions of the job; scripts wait on these."""
    effective_spec: dict[str, Any] | None = None
    """The spec with every default applied."""
    progress: Progress | None = None
    """Latest figures of training."""
    history: list[HistoryPoint] | None = Field(None, max_length=MAX_HISTORY)
    """At most 64 points of the loss curve over the whole run."""
    dataset: DatasetStatus | None = None
    """What was measured of the data set."""
    estimate: Estimate | None = None
    """Estimated peak memory, part by part."""
    attempts: list[Attempt] | None = Field(None, max_length=MAX_ATTEMPTS)
    """The last ten pods that trained."""
    output: OutputStatus | None = None
    """Where the model is."""
    failure: Failure | None = None
    """Why the job failed."""
    job_name: str | None = None
    """Name of the current Job."""
    pod_name: str | None = None
    """Name of the current pod."""
    last_checkpoint_step: int | None = None
    """Step of the last complete checkpoint, from which a retry resumes."""
    preflight_completion_time: str | None = None
    """When the preflight succeeded."""
    start_time: str | None = None
    """When the first pod started to train."""
    completion_time: str | None = None
    """When the job ended."""
    observed_generation: int | None = None
    """The metadata.generation that the status is about."""
