"""Lists of TrainingJobs, page by page: filtered by phase and labels, and sorted."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal, Protocol

from model_garden.cluster import TRAINING_JOBS, Cluster, Listing, Object
from model_garden.services.errors import BadToken
from model_garden.services.job_view import phase

Sort = Literal["name", "-name", "creation_timestamp", "-creation_timestamp", "phase", "-phase"]


class Reader(Protocol):
    """Reads all jobs of a namespace."""

    async def __call__(self, *, version: str | None = None) -> Listing:
        """The jobs as they are, or as they were at a ``resourceVersion``."""


@dataclass(frozen=True)
class Selection:
    """Which jobs, in which order, and which page of them.

    Attributes:
        namespace: None for all namespaces.
        labels: a Kubernetes label selector.
        phases: the phases to include; empty for all.
        sort: the field to sort by, descending with ``-``.
        limit: the most jobs of a page.
        token: ``Page.token`` of the page before.
    """

    namespace: str | None
    labels: str | None = None
    phases: tuple[str, ...] = ()
    sort: Sort = "name"
    limit: int = 100
    token: str | None = None


@dataclass(frozen=True)
class Page:
    """Some jobs, and the token of the next page; None on the last one."""

    jobs: list[Object]
    token: str | None


async def list_page(cluster: Cluster, selection: Selection, everything: Reader | None = None) -> Page:
    """One page. All pages that follow from one another show the jobs as they were at the first.

    Args:
        cluster: the client.
        selection: what is asked for.
        everything: reads all jobs of the namespace where that is quicker than from the API server.

    Raises:
        BadToken: the token is of another list.
        ClusterError: the API server refused; with status 410 the token has expired.
    """
    if selection.labels:  # which the API server selects by
        everything = None
    if selection.sort == "name" and not selection.phases and not everything:  # the API server pages by itself
        found = await cluster.page(
            TRAINING_JOBS,
            selection.namespace,
            limit=selection.limit,
            token=selection.token,
            labels=selection.labels,
        )
        return Page(found.items, found.token)
    version, start = _read(selection) if selection.token else (None, 0)
    if everything:
        listing = await everything(version=version)
    else:
        listing = await cluster.list(TRAINING_JOBS, selection.namespace, labels=selection.labels, version=version)
    jobs = select(listing.items, selection.phases, selection.sort)
    end = start + selection.limit
    more = end < len(jobs)
    return Page(jobs[start:end], _token(selection, listing.resource_version, end) if more else None)


def select(jobs: list[Object], phases: tuple[str, ...], sort: Sort) -> list[Object]:
    """The jobs in one of ``phases``, sorted; those that are equal in that field by namespace and name."""
    field = sort.removeprefix("-")

    def key(job: Object) -> tuple[str, str, str]:
        metadata = job["metadata"]
        first = {"name": "", "creation_timestamp": metadata["creationTimestamp"], "phase": phase(job)}[field]
        return (first, metadata["namespace"], metadata["name"])

    kept = [job for job in jobs if not phases or phase(job) in phases]
    return sorted(kept, key=key, reverse=sort.startswith("-"))


def _token(selection: Selection, version: str, start: int) -> str:
    return base64.urlsafe_b64encode(f"{_order(selection)}:{version}:{start}".encode()).decode()


def _read(selection: Selection) -> tuple[str, int]:
    """The version of the list and where its next page starts."""
    try:
        order, version, start = base64.urlsafe_b64decode(selection.token or "").decode().split(":")
        if order != _order(selection) or not version.isdigit():
            raise ValueError(order)
        return version, int(start)
    except ValueError as wrong:
        raise BadToken("continue: this token is not of a list with the same phase, label and sort") from wrong


def _order(selection: Selection) -> str:
    """What must be the same for all pages of a list."""
    return f"{selection.sort} {' '.join(selection.phases)}"
