"""The failure reasons of a job: for each its exit code, whether a retry helps, and what to do.

The exit codes of the trainer, the ``podFailurePolicy`` of the Job, the reason that the controller gives an exit code
and the table in docs/troubleshoot.md are all made from ``REASONS``. To add a reason, add a row, and if the trainer
raises it, its name to ``TrainerReason``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

DONE, ERROR, STOPPED = 0, 1, 143
"""Exit codes without a reason: the trainer succeeded, failed for an unknown reason, or was stopped by a signal."""
WORKER_LOST = 8
"""One pod of several ended because another did. The Job does not count it, so that only the first failure counts."""

TrainerReason = Literal[
    "InvalidSpec",
    "MissingPackages",
    "OutputNotWritable",
    "InsufficientStorage",
    "InvalidDataset",
    "InvalidModel",
    "ModelNotFound",
    "HubUnreachable",
    "StorageAccessDenied",
    "StorageUnreachable",
    "OutOfMemory",
    "LossIsNaN",
    "NoGradient",
    "RewardFailed",
    "ExportFailed",
    "StepTimeout",
    "WorkerLost",
    "TrainerError",
]
"""The reasons that the trainer may raise."""


@dataclass(frozen=True)
class Reason:
    """One failure reason.

    Args:
        name: as in ``status.failure.reason``.
        exit_code: of the trainer; None for a reason that Kubernetes or the operator finds.
        action: what the user can do, in Markdown.
        retried: whether the Job starts another pod after this exit code.
    """

    name: str
    exit_code: int | None
    action: str
    retried: bool = False


REASONS = (
    Reason(
        "InvalidSpec",
        2,
        "The message names the wrong field. The spec of a job cannot change, so create a new job with the corrected "
        "field: `model-garden rerun NAME --set FIELD=VALUE`.",
    ),
    Reason(
        "MissingPackages",
        2,
        "Install the package that the message names. On your own machine: `pip install 'model-garden[trainer]'`. "
        "In a cluster, correct the image.",
    ),
    Reason(
        "OutputNotWritable",
        2,
        "Fix the models claim if it is read-only. If the folder belongs to another user or another run, "
        "choose another `outputDir`. For a bucket, give the account of `storage.credentialsSecret` the "
        "right to write it, or choose another `pushTo`.",
    ),
    Reason(
        "InsufficientStorage",
        2,
        "The message has the parts of what is needed, and what is free. Delete models or data that nobody uses "
        "(`model-garden models rm`), make the claim larger, or lower what the message names; then rerun.",
    ),
    Reason(
        "StorageAccessDenied",
        2,
        "The server refused the credentials. Correct the keys in the Secret of `storage.credentialsSecret`, or give "
        "its account the right to read what the message names.",
    ),
    Reason(
        "RewardFailed",
        2,
        "Correct the reward function that the message names, or the row; the message has its error. The last "
        "checkpoint is kept.",
    ),
    Reason("InvalidDataset", 3, "Fix the listed rows. Up to 20 are listed, each with file, row, reason and fix."),
    Reason(
        "ModelNotFound",
        4,
        "Correct the path or Hub id of `baseModel`, or give a token for a gated model (`hubTokenSecret`).",
    ),
    Reason(
        "InvalidModel",
        4,
        "If the message names a damaged file, download that file again. Otherwise choose a model that matches "
        "`isVision`.",
    ),
    Reason(
        "OutOfMemory",
        5,
        "The batch did not fit into memory. With `autoBatchSize: false`, lower `batchSize`. Otherwise lower "
        "`maxSeqLength` or `imageOptions.maxPixels`, use `quantization: 4bit`, or use a larger GPU. After exit code "
        "137, which is retried, raise `resources.limits.memory`: the kernel killed the container.",
    ),
    Reason("LossIsNaN", 6, "Lower the learning rate. The last good checkpoint is kept."),
    Reason(
        "NoGradient",
        6,
        "The first steps changed no weight. Set `backend: transformers`; if that trains, the libraries of the other "
        "backend do not work together on this GPU: report it with the versions in the log.",
    ),
    Reason("ExportFailed", 7, "Follow the message. The adapter is kept at `status.output.adapterPath`."),
    Reason(
        "WorkerLost",
        WORKER_LOST,
        "This pod ended because another pod of the job ended; see the log of the other pod. This pod does not count "
        "against `backoffLimit` ([distributed.md](distributed.md)).",
        retried=True,
    ),
    Reason(
        "HubUnreachable",
        9,
        "The Hub did not answer for a minute. The Job retries `backoffLimit` times. Check the network of the cluster, "
        "or use a model folder and data files in the workspace instead of the Hub.",
        retried=True,
    ),
    Reason(
        "StorageUnreachable",
        9,
        "The server of an `s3://`, `gs://` or `https://` address did not answer. The Job retries `backoffLimit` times, "
        "and downloads resume. Check the network of the cluster and `storage.endpointUrl`.",
        retried=True,
    ),
    Reason(
        "StepTimeout",
        ERROR,
        "No step finished within the time of `spec.health`, or the pods of a job with several nodes did not connect in "
        "time. For a stuck step, the log shows what every thread did. If the step was only slow, raise "
        "`health.stepSeconds` or `health.firstStepSeconds`.",
        retried=True,
    ),
    Reason("TrainerError", ERROR, "See the log. The Job has already retried `backoffLimit` times.", retried=True),
    Reason(
        "InsufficientGPUMemory",
        None,
        "No GPU of the cluster has enough memory for the job. The parts of the estimate say what to lower.",
    ),
    Reason(
        "DeadlineExceeded",
        None,
        "The Job ran longer than `activeDeadlineSeconds`. To resume from its last checkpoint: `model-garden rerun NAME "
        "--set activeDeadlineSeconds=SECONDS --set outputDir=FOLDER`, where FOLDER is the `outputDir` of the old job.",
    ),
    Reason(
        "BackoffLimitExceeded",
        None,
        "All retries failed, and no pod is left that shows why. See `status.attempts`.",
    ),
    Reason(
        "PodFailurePolicy",
        None,
        "A pod ended with an exit code for which a retry cannot help, and no pod is left that shows why. The last of "
        "`status.attempts` has the exit code; find it in this table.",
    ),
    Reason(
        "Preempted",
        None,
        "A pod of higher priority replaced the last pod. This does not count against `backoffLimit`: see "
        "`status.attempts` for the failures that do; then rerun.",
    ),
    Reason(
        "Evicted",
        None,
        "The last pod was evicted from its node. This does not count against `backoffLimit`: see `status.attempts` for "
        "the failures that do; then rerun.",
    ),
    Reason("ClaimNotFound", None, "Create the PersistentVolumeClaim, or name another in `spec.storage`; then rerun."),
    Reason("ClaimNotBound", None, "Check the claim's storage class and its events; then rerun."),
    Reason("NotFound", None, "Create the object that the message names; then rerun."),
    Reason("MountFailed", None, "Fix the volume that the message names; then rerun."),
    Reason("ImageNotPullable", None, "Correct `spec.image` or `spec.podTemplate.imagePullSecrets`; then rerun."),
    Reason(
        "PodRefused",
        None,
        "Kubernetes refused to create the pod. Change the policy or `spec.podTemplate` as the message says; then "
        "rerun.",
    ),
    Reason(
        "CreateContainerConfigError",
        None,
        "The container cannot be configured. Fix what the message names in `spec.podTemplate`; then rerun.",
    ),
    Reason("CreateContainerError", None, "The node cannot create the container. See the message; then rerun."),
    Reason("RunContainerError", None, "The node cannot start the container. See the message; then rerun."),
)

EXIT_CODES = {reason.name: reason.exit_code for reason in REASONS if reason.exit_code is not None}
"""The exit code of each reason that the trainer can give."""
NO_RETRY = sorted(set(EXIT_CODES.values()) - {r.exit_code for r in REASONS if r.retried})
"""The exit codes that end a Job at once, since a retry cannot help."""


def reason_of_exit_code(code: int | None) -> str:
    """The reason of a trainer that gave none: the first of the table with its exit code."""
    return next((name for name, known in EXIT_CODES.items() if known == code and known != ERROR), "TrainerError")


def markdown_table() -> str:
    """The table of failure reasons for docs/troubleshoot.md."""
    return "\n".join(_rows())


def _rows() -> Iterator[str]:
    yield "| reason | exit code | retried | what to do |"
    yield "|---|---|---|---|"
    for reason in REASONS:
        code = "" if reason.exit_code is None else str(reason.exit_code)
        retried = "" if reason.exit_code is None else "yes" if reason.retried else "no"
        yield f"| `{reason.name}` | {code} | {retried} | {reason.action} |"
