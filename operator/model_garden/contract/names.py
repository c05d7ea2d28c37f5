"""Names of the API, and names of Jobs, labels and annotations made from a TrainingJob, within Kubernetes' limits."""

from __future__ import annotations

import hashlib

GROUP = "model-garden.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "TrainingJob"
PLURAL = "trainingjobs"

LABEL_JOB = f"{GROUP}/training-job"
"""On every Job and Pod: the name of the TrainingJob as a ``label_value``."""
LABEL_STEP = f"{GROUP}/step"
"""``train`` or ``preflight``."""
LABEL_IDEMPOTENCY_KEY = f"{GROUP}/idempotency-key"
"""On a TrainingJob that a request with an ``Idempotency-Key`` created: the key's hash."""
LABEL_OPENAI_REQUEST = f"{GROUP}/openai-request"
"""On a TrainingJob that a client of the OpenAI API created: the request's hash."""
ANNOTATION_METADATA = f"{GROUP}/openai-metadata"
"""On a TrainingJob that a client of the OpenAI API created: its metadata as JSON."""
ANNOTATION_STOP = f"{GROUP}/stop"
"""Set by a user: ``save`` ends training early and saves the model; the job succeeds."""
ANNOTATION_CANCEL = f"{GROUP}/cancel"
"""Set by a user: ``true`` ends the job, which becomes Cancelled."""

COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
"""Set by Kubernetes on each pod of an Indexed Job. The pod of index 0 is the leader of the others."""
JOB_NAME = "batch.kubernetes.io/job-name"
"""Set by Kubernetes on each pod of a Job, which keeps it when the Job is deleted and the pod is not."""

KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
KUEUE_PRIORITY = "kueue.x-k8s.io/priority-class"

WORKSPACE = "/workspace"
TRAINER_CONTAINER = "trainer"
CONFIG_ENV = "MODEL_GARDEN_CONFIG"
TERMINATION_LOG = "termination-log"
"""Relative to the working directory, as all paths of the trainer."""
TERMINATION_ENV = "MODEL_GARDEN_TERMINATION_LOG"
"""The file for the outcome of a trainer that does not run in a pod."""
PREFLIGHT_DONE_ENV = "MODEL_GARDEN_PREFLIGHT_DONE"
"""Set with HF_HUB_OFFLINE if a preflight downloaded the model. The trainer goes online if the cache lost the model."""
FETCHED_ENV = "MODEL_GARDEN_FETCHED"
"""Where the trainer has put what it fetched from remote storage, for the processes that it starts: JSON."""
POD_ANNOTATIONS = "podinfo/annotations"
"""Where a trainer in a pod reads its annotations, which the kubelet keeps up to date."""
ANNOTATIONS_ENV = "MODEL_GARDEN_ANNOTATIONS"
"""The file with the annotations of a trainer that does not run in a pod."""

_MAX_LABEL = 63
_POD_SUFFIX = 6  # a Job's pods are called JOB-xxxxx, of several nodes JOB-0 to JOB-1023 on the network


SUSPENDED_BY_SPEC = f"{GROUP}/suspended-by-spec"
"""On a Job that ``spec.suspend`` suspended: the operator resumes no other Job."""


def shortened(name: str, room: int) -> str:
    """``name`` cut to ``room`` characters, made unique again by a hash of the whole where it was cut."""
    if len(name) <= room:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: room - 9].rstrip('-.')}-{digest}"


def job_name(training_job: str, step: str = "train") -> str:
    """The name of the Job of one step: short enough that its pods' names are valid labels too."""
    suffix = f"-{step}"
    return shortened(training_job.replace(".", "-"), _MAX_LABEL - _POD_SUFFIX - len(suffix)) + suffix


def service_name(job: str) -> str:
    """The name of the headless Service of a Job of several pods: the Job's, made to begin with a letter."""
    return job if job[0].isalpha() else f"job-{job}"


def label_value(training_job: str) -> str:
    """The name of the TrainingJob as the value of a label."""
    return shortened(training_job, _MAX_LABEL)
