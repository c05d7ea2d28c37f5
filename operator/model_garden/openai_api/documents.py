"""A TrainingJob as OpenAI's ``fine_tuning.job``, and lists in pages. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from model_garden.contract.defaults import effective_spec
from model_garden.contract.names import ANNOTATION_CANCEL
from model_garden.contract.resource import parse_spec
from model_garden.contract.spec import EffectiveSpec
from model_garden.openai_api.mapping import metadata_of, shown_hyperparameters
from model_garden.openai_api.request import Invalid
from model_garden.services.errors import NotFound
from model_garden.services.job_document import NAME_PATTERN
from model_garden.services.job_view import has_ended, phase
from model_garden.storage.interface import StoredDataset

Object = dict[str, Any]

JOB_PREFIX = "ftjob-"
FILE_PREFIX = "file-"
MAX_NAME = 253
_STATUS = {
    "Pending": "queued",
    "Preparing": "validating_files",
    "Queued": "queued",
    "Starting": "queued",
    "Running": "running",
    "Suspended": "paused",
    "Succeeded": "succeeded",
    "Failed": "failed",
    "Cancelled": "cancelled",
}
_PARAM_OF_REASON = {"InvalidDataset": "training_file", "InvalidModel": "model", "ModelNotFound": "model"}


def job_id(name: str) -> str:
    """The id of the job ``name``."""
    return JOB_PREFIX + name


def job_name(identifier: str) -> str:
    """The name of a job by its id.

    Raises:
        NotFound: it is no id of a job.
    """
    name = identifier.removeprefix(JOB_PREFIX)
    if name == identifier or not is_name(name):
        raise NotFound(f"there is no fine-tuning job {identifier!r}; an id begins with {JOB_PREFIX}")
    return name


def is_name(text: str) -> bool:
    """Whether a job can have this name."""
    return len(text) <= MAX_NAME and re.fullmatch(NAME_PATTERN, text) is not None


def result_id(name: str) -> str:
    """The id of the result file of the job ``name``."""
    return f"{FILE_PREFIX}results-{name}"


def file_id(path: str) -> str:
    """The id of the uploaded file at ``path``; of another data set, its path.

    >>> file_id("./data/file-0123/train.jsonl"), file_id("./data/receipts.jsonl")
    ('file-0123', './data/receipts.jsonl')
    """
    folder = PurePosixPath(path).parent
    uploaded = folder.name.startswith(FILE_PREFIX) and str(folder.parent) == "data"
    return folder.name if uploaded else path


def file_document(stored: StoredDataset) -> Object:
    """An uploaded data set as OpenAI's ``file``."""
    return {
        "id": stored.name,
        "object": "file",
        "bytes": stored.size,
        "created_at": int(stored.modified.timestamp()),
        "filename": PurePosixPath(stored.data_files[0]).name,
        "purpose": "fine-tune",
        "status": "processed",
    }


def job_document(job: Object) -> Object:
    """The plain resource ``job`` as OpenAI's ``fine_tuning.job``."""
    metadata, status, spec = job["metadata"], job.get("status") or {}, effective(job)
    shown = shown_hyperparameters(spec)
    succeeded = phase(job) == "Succeeded"
    validation = spec.validation_dataset_path
    return {
        "id": job_id(metadata["name"]),
        "object": "fine_tuning.job",
        "created_at": seconds(metadata["creationTimestamp"]),
        "finished_at": seconds(status.get("completionTime")),
        "status": job_status(job),
        "model": spec.base_model,
        "fine_tuned_model": (status.get("output") or {}).get("path") if succeeded else None,
        "organization_id": metadata["namespace"],
        "training_file": file_id(spec.dataset_path),
        "validation_file": validation and file_id(validation),
        "result_files": [result_id(metadata["name"])] if succeeded else [],
        "trained_tokens": None,
        "estimated_finish": seconds((status.get("progress") or {}).get("estimatedCompletionTime")),
        "hyperparameters": shown,
        "method": {"type": "supervised", "supervised": {"hyperparameters": shown}},
        "seed": spec.hyperparameters.seed,
        "metadata": metadata_of(job),
        "integrations": [],
        "error": _error(status),
    }


def effective(job: Object) -> EffectiveSpec:
    """The job's spec with its defaults."""
    return effective_spec(parse_spec(job["spec"]), job["metadata"]["name"])


def job_status(job: Object) -> str:
    """OpenAI's word for the phase. A job is cancelled and paused as soon as that was asked for, as at OpenAI."""
    if not has_ended(job):
        if (job["metadata"].get("annotations") or {}).get(ANNOTATION_CANCEL) == "true":
            return "cancelled"
        if job["spec"].get("suspend"):
            return "paused"
    return _STATUS[phase(job)]


def _error(status: Object) -> Object | None:
    failure = status.get("failure")
    if not failure:
        return None
    reason = failure["reason"]
    return {"code": reason, "message": failure["message"], "param": _PARAM_OF_REASON.get(reason)}


def seconds(timestamp: str | None) -> int | None:
    """An RFC 3339 timestamp in seconds since 1970."""
    return None if timestamp is None else int(datetime.fromisoformat(timestamp).timestamp())


def page(ids: Sequence[str], after: str | None, limit: int) -> range:
    """The places of the items that follow the one with the id ``after``, at most ``limit``.

    Raises:
        Invalid: there is no such item.
    """
    if after is not None and after not in ids:
        raise Invalid("after", f"{after!r} is not in this list; list again from its start")
    start = 0 if after is None else ids.index(after) + 1
    return range(start, min(start + limit, len(ids)))


def listing(data: Sequence[Object], *, has_more: bool) -> Object:
    """Some items as a list of OpenAI's."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
