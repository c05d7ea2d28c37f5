"""TrainingJobStatus, which the operator writes. Programs read the conditions, and people ``phase``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from model_garden.contract.memory_estimate import Estimate
from model_garden.contract.model import Report
from model_garden.contract.options import Tracker
from model_garden.contract.time import Time

Phase = Literal[
    "Pending", "Preparing", "Queued", "Starting", "Running", "Suspended", "Succeeded", "Failed", "Cancelled"
]
ConditionType = Literal["Reconciling", "Stalled", "Queued", "Running", "Complete", "Failed", "Finished"]
EndReason = Literal["Completed", "Preempted", "Evicted", "Error", "Stopped"]

MAX_ATTEMPTS = 10
MAX_HISTORY = 64
MAX_STAGES = 24
MAX_WARNINGS = 20
MAX_CHECKPOINTS = 32
MAX_SCORES = 64

Stage = Literal["dataset", "model", "training", "evaluating", "saving", "exporting", "verifying"]


class Condition(Report):
    """A ``metav1.Condition``."""

    type: ConditionType
    """Kind of the condition."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: str = Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)
    """Reason for programs, in CamelCase."""
    message: str = Field(max_length=32_768)
    """Reason for people, as a sentence."""
    observed_generation: int | None = None
    """metadata.generation of the TrainingJob when the condition was set."""
    last_transition_time: str
    """When status changed last."""


class Progress(Report):
    """The latest figures of a run."""

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
    """Duration of an optimizer step in seconds."""
    data_seconds: float | None = None
    """Seconds of a step spent waiting for data."""
    forward_seconds: float | None = None
    """Seconds of a step spent in the forward pass."""
    backward_seconds: float | None = None
    """Seconds of a step spent in the backward pass."""
    optimizer_seconds: float | None = None
    """Seconds of a step spent in the optimizer."""
    answering_seconds: float | None = None
    """Seconds spent on answers to the rows of spec.evaluation, spread over the steps from one time to the next."""
    samples_per_second: float | None = None
    """Rows trained per second."""
    tokens_per_second: float | None = None
    """Tokens trained per second."""
    gpu_memory_gib: float | None = Field(None, alias="gpuMemoryGiB")
    """Peak memory of a GPU, in GiB."""
    metrics: dict[str, float] | None = None
    """Means of the method's own figures since the last report, by TRL's names, such as rewards/margins. Names that
    begin with eval_ are of the last evaluation."""
    estimated_completion_time: Time | None = None
    """Estimated time of the end of the run, with evaluations, checkpoints, export and verification. The answers of
    spec.evaluation are counted from the first time on that the rows were answered during training."""
    last_report_time: Time | None = None
    """Time of the last report of the trainer."""


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
    grad_norm: float | None = None
    """Norm of the gradients before clipping."""
    tokens_per_second: float | None = None
    """Tokens trained per second."""
    metrics: dict[str, float] | None = None
    """Figures of the method, as in progress."""


class StageTime(Report):
    """How long a pod has been in a stage. The last one of a pod is where it is, or where it ended."""

    pod: str
    """Name of the pod."""
    stage: Stage
    """The stage."""
    entered_time: Time
    """When the pod entered the stage last."""
    first_entered_time: str | None = None
    """When the pod entered the stage first, if that was another time."""
    left_time: str | None = None
    """When the pod left the stage last."""
    seconds: float = 0
    """Seconds in the stage before that, or in all when the pod has left it."""
    detail: str | None = None
    """More about it, such as bytes fetched."""


class CountedWarning(Report):
    """A problem that did not end the run, and how often it was reported."""

    message: str
    """The last message. Messages that differ only in their numbers are counted as one."""
    count: int = 1
    """How often it was reported, at most once a second."""
    last_time: Time
    """When it was reported last."""


class TokenLengths(Report):
    """Lengths of rows in tokens, image tokens included."""

    median: int
    """Half of the rows are at most this long."""
    p95: int
    """95 percent of the rows are at most this long."""
    maximum: int
    """Length of the longest row."""


class DatasetStatus(Report):
    """Measured sizes of the data set."""

    rows: int
    """Rows to train on."""
    validation_rows: int | None = None
    """Rows to evaluate on."""
    images: int | None = None
    """Images in all rows."""
    tokens: TokenLengths | None = None
    """Lengths of rows in tokens, image tokens included."""
    measured_by: Literal["Preflight", "Trainer"] | None = None
    """Who measured the data set: Preflight or Trainer."""


class Attempt(Report):
    """One pod of the job: its node, its steps, and why it ended."""

    pod: str
    """Name of the pod."""
    node: str | None = None
    """Node of the pod."""
    reason: EndReason | None = None
    """Why the pod ended."""
    message: str | None = None
    """Why the pod ended, as a sentence."""
    exit_code: int | None = None
    """Exit code of the trainer."""
    from_step: int | None = None
    """First step of the pod."""
    to_step: int | None = None
    """Last step of the pod."""
    start_time: str | None = None
    """When the trainer started."""
    end_time: str | None = None
    """When the pod ended."""
    gpu_seconds: float | None = None
    """Seconds for which its GPUs were held, times their number: from the binding of the pod to its end, or to its last
    report."""
    training_gpu_seconds: float | None = None
    """The part of gpuSeconds in which the GPUs trained or evaluated."""


class Usage(Report):
    """GPU time of all attempts of the job."""

    gpu_hours: float
    """Hours for which GPUs were held, times their number."""
    training_gpu_hours: float
    """The part of gpuHours in which the GPUs trained or evaluated."""
    cost: float | None = None
    """gpuHours times the price in the operator's settings."""
    currency: str | None = None
    """Currency of the cost."""


class SampleScores(Report):
    """Scores of the base model's and the trained model's answers to a few rows, from 0 (all wrong) to 1 (all exact)."""

    rows: int
    """Answered rows."""
    exact_match_before: float
    """Share of rows that the base model answered exactly, from 0 to 1."""
    exact_match_after: float
    """Share of rows that the trained model answered exactly, from 0 to 1."""
    similarity_before: float
    """Mean similarity of the base model's answers, from 0 to 1."""
    similarity_after: float
    """Mean similarity of the trained model's answers, from 0 to 1."""


class Samples(Report):
    """Scores of the answers to a few training rows and to a few validation rows, before and after training."""

    train: SampleScores
    """Answers to rows that the model was trained on."""
    validation: SampleScores | None = None
    """Answers to validation rows, which the model was not trained on."""


class EvaluationScore(Report):
    """One score of the answers to held-out rows, or of a task."""

    metric: str
    """Name of the score, such as exact_match or json_fields_f1."""
    task: str | None = None
    """Task of lm-evaluation-harness, for a score of it."""
    field: str | None = None
    """Field of the JSON answers, such as total or items.price, for a score of that field alone."""
    value: float
    """Score of the trained model."""
    base_value: float | None = None
    """Score of the base model."""
    standard_error: float | None = None
    """Standard error of value, for a score of a task."""


class EvaluationStatus(Report):
    """Scores of the answers to held-out rows, and of tasks of lm-evaluation-harness."""

    rows: int | None = None
    """Answered rows."""
    total_rows: int | None = None
    """Rows of the data set."""
    dataset_path: str | None = None
    """Data set of the rows."""
    scores: list[EvaluationScore] = Field(max_length=MAX_SCORES)
    """Scores of the trained model and of the base model."""
    path: str | None = None
    """File with every answer and its scores, relative to the workspace."""
    completion_time: Time | None = None
    """When the evaluation ended."""


class TrackerStatus(Report):
    """Where a tracker of ``reportTo`` shows the run: at a URL, or in files of the output folder."""

    name: Tracker
    """Name of the tracker, as in reportTo."""
    url: str | None = None
    """Page of the run."""
    path: str | None = None
    """Folder of the run's files, relative to the workspace, for a tracker without a server."""


class OutputStatus(Report):
    """The trained model. Paths are relative to the workspace."""

    path: str
    """Folder of the model, relative to the workspace."""
    adapter_path: str | None = None
    """Folder of the LoRA adapter."""
    lora_rank: int | None = None
    """Largest rank of the LoRA adapter."""
    merged_path: str | None = None
    """Folder of the merged model."""
    gguf_path: str | None = None
    """GGUF file."""
    model_class: str | None = None
    """Class of transformers that loads the base model and the merged model."""
    hub_url: str | None = None
    """URL of the model on the Hub."""
    remote_url: str | None = None
    """Address of the model in the bucket of pushTo."""
    size_bytes: int | None = None
    """Size of the output in bytes."""
    trained_steps: int | None = None
    """Optimizer steps of training."""
    final_loss: float | None = None
    """Training loss at the end."""
    best_step: int | None = None
    """Step of the saved weights: the evaluated one with the lowest validation loss. Without it, the last step's are
    saved."""
    best_eval_loss: float | None = None
    """Validation loss of the saved weights, at bestStep."""
    verified: bool | None = None
    """Whether the saved model was loaded again and answered a row."""
    samples: Samples | None = None
    """Scores of the answers to a few rows before and after training."""
    trackers: list[TrackerStatus] | None = None
    """Where the trackers of reportTo show the run."""


class Failure(Report):
    """Why the job failed, with the fix in the message."""

    reason: str
    """Failure reason; docs/troubleshoot.md lists them."""
    message: str
    """What failed, and the fix."""
    exit_code: int | None = None
    """Exit code of the trainer."""
    log_tail: list[str] | None = None
    """Last lines of the failed pod's log."""


class QueueStatus(Report):
    """The job in Kueue."""

    name: str
    """Name of the LocalQueue."""
    cluster_queue: str | None = None
    """Name of the ClusterQueue that reserved the quota."""
    workload: str | None = None
    """Name of the Workload."""
    position: int | None = None
    """Place in the line of the ClusterQueue while the job waits; 1 is next."""
    admission_time: str | None = None
    """When Kueue admitted the job last."""


class TrainingJobStatus(Report):
    """The status of a TrainingJob. After ``preflightCompletionTime``, every Job of it trains."""

    phase: Phase | None = None
    """State of the job, for people."""
    conditions: list[Condition] | None = None
    """Conditions of the job. Scripts should wait for these, not for the phase."""
    missing_since: dict[str, str] | None = None
    """When each thing that is missing was first missed, while the job is stalled. The job waits for each as long."""
    effective_spec: dict[str, Any] | None = None
    """The spec with every default applied."""
    progress: Progress | None = None
    """Latest figures of training."""
    history: list[HistoryPoint] | None = Field(None, max_length=MAX_HISTORY)
    """At most 64 points of the loss curve over the whole run."""
    dataset: DatasetStatus | None = None
    """Measured sizes of the data set."""
    estimate: Estimate | None = None
    """Estimated peak memory, part by part."""
    fetched: dict[str, str] | None = None
    """SHA-256 of what the preflight fetched from remote storage, by field. Training reads the same bytes."""
    queue: QueueStatus | None = None
    """The job in Kueue, for a job that Kueue manages."""
    attempts: list[Attempt] | None = Field(None, max_length=MAX_ATTEMPTS)
    """The last ten pods that trained."""
    usage: Usage | None = None
    """GPU time of all attempts of the job, and its cost if the operator knows a price."""
    output: OutputStatus | None = None
    """The trained model."""
    evaluation: EvaluationStatus | None = None
    """Scores of the answers to held-out rows, if the spec has evaluation."""
    failure: Failure | None = None
    """Why the job failed."""
    job_name: str | None = None
    """Name of the current Job."""
    pod_name: str | None = None
    """Name of the current pod."""
    last_checkpoint_step: int | None = None
    """Step of the last complete checkpoint, from which a retry resumes."""
    checkpoint_steps: list[int] | None = Field(None, max_length=MAX_CHECKPOINTS)
    """Steps of the last 32 checkpoints. Older ones may have been deleted (saveTotalLimit)."""
    stages: list[StageTime] | None = Field(None, max_length=MAX_STAGES)
    """How long the last pods were in each stage."""
    warnings: list[CountedWarning] | None = Field(None, max_length=MAX_WARNINGS)
    """Problems that did not end the run."""
    preflight_completion_time: str | None = None
    """When the preflight succeeded."""
    start_time: str | None = None
    """When the first pod started to train."""
    completion_time: str | None = None
    """When the job ended."""
    observed_generation: int | None = None
    """metadata.generation of the TrainingJob when the status was written."""
