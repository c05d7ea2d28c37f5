"""Creation that may be repeated: the same request again returns the job that the first one created."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from model_garden.cluster import TRAINING_JOBS, Cluster, Object
from model_garden.contract.names import KIND, LABEL_IDEMPOTENCY_KEY, shortened
from model_garden.services.errors import Conflict, KeyReused
from model_garden.services.manifest import Job
from model_garden.services.submission import create_job

_CHANGES_LATER = ("suspend",)
"""Fields that requests of their own change once the job exists."""
_MAX_NAME = 63


@dataclass(frozen=True)
class Created:
    """A job, and whether this request created it."""

    job: Object
    new: bool


async def create_once(cluster: Cluster, job: Job, namespace: str, *, named: bool, key: str | None = None) -> Created:
    """Create ``job``, or find the one that the same request created before.

    Args:
        cluster: the client.
        job: what to create.
        namespace: where.
        named: whether the request gave the name; with ``key``, a derived name is made unique by it.
        key: the request's ``Idempotency-Key``.

    Raises:
        Conflict: the namespace has a job of this name with another spec; the differences are named.
        KeyReused: the key belongs to another request.
        ClusterError: the API server refused.
    """
    if key is not None:
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        earlier = (await cluster.list(TRAINING_JOBS, namespace, labels=f"{LABEL_IDEMPOTENCY_KEY}={digest}")).items
        if earlier:
            return Created(_same_request(earlier[0], job, named), new=False)
        if not named:
            job.name = f"{shortened(job.name, _MAX_NAME - 9)}-{digest[:8]}"
        job.metadata["labels"] = {**job.metadata.get("labels", {}), LABEL_IDEMPOTENCY_KEY: digest}
    try:
        return Created(await create_job(cluster, job, namespace), new=True)
    except Conflict:
        existing = await cluster.get(TRAINING_JOBS, job.name, namespace)
        if problems := differences(existing, job):
            raise Conflict(f"namespace {namespace} already has another {KIND} {job.name}", *problems) from None
        return Created(existing, new=False)


def _same_request(earlier: Object, job: Job, named: bool) -> Object:
    """``earlier`` if the request that created it was the same.

    Raises:
        KeyReused: it was another.
    """
    name = earlier["metadata"]["name"]
    problems = differences(earlier, job)
    if named and name != job.name:
        problems.insert(0, f"metadata.name: the first request has {name!r}, this one {job.name!r}")
    if problems:
        raise KeyReused(f"this Idempotency-Key was used for the {KIND} {name}; use a new key", *problems)
    return earlier


def differences(existing: Object, job: Job) -> list[str]:
    """One line for each field in which ``job`` differs from the one that exists; empty for the same request."""
    if existing["metadata"].get("deletionTimestamp"):
        return ["metadata.name: the job of this name is being deleted; wait, or use another name"]
    have, want = flat(existing["spec"]), flat(job.spec.to_dict())
    found = [
        f"spec.{field}: the existing job has {_shown(have.get(field))}, this request {_shown(want.get(field))}"
        for field in sorted(have.keys() | want.keys())
        if have.get(field) != want.get(field) and field not in _CHANGES_LATER
    ]
    labels = existing["metadata"].get("labels") or {}
    found += [
        f"metadata.labels: the existing job has {key}={_shown(labels.get(key))}, this request {_shown(value)}"
        for key, value in job.metadata.get("labels", {}).items()
        if key != LABEL_IDEMPOTENCY_KEY and labels.get(key) != value
    ]
    return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted paths.

    >>> flat({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)
