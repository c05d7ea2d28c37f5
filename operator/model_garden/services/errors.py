"""Errors of the services. The command line maps their type to an exit code, and the API to an HTTP status.

Services also raise ``contract.resource.InvalidResource`` for a TrainingJob that breaks a rule, and
``cluster.ClusterError`` for a request that the API server refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_garden.contract.names import GROUP, KIND
from model_garden.services.rights import missing_right

if TYPE_CHECKING:
    from model_garden.cluster import ClusterError


class ServiceError(Exception):
    """A request that failed; ``problems`` has one line for each problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class NotFound(ServiceError):
    """There is no such TrainingJob, data set or model, or the job has no log."""


class Conflict(ServiceError):
    """The request conflicts with what there is: the name exists, or the TrainingJob has ended."""


class KeyReused(ServiceError):
    """An ``Idempotency-Key`` came with another request than the first."""


class BadToken(ServiceError):
    """A list's ``continue`` token is of another list."""


class Unavailable(ServiceError):
    """Something that the request needs from elsewhere cannot be read; the message says what to send in its place."""


class MissingPackages(ServiceError):
    """This installation lacks Python packages that the request needs."""


def cluster_problems(refused: ClusterError) -> list[str]:
    """The problems that the API server found, one line for each field. A missing CRD has a message of its own.

    A missing right is named with the role that holds it, which the chart extends, and with the command that grants it.
    """
    if refused.status == 404 and refused.reason != "NotFound":
        return [
            f"the {KIND} CRD ({GROUP}) is not installed in this cluster: install Model Garden with its Helm chart or "
            "with kubectl apply -f manifests/operator.yaml"
        ]
    if refused.status == 403 and (right := missing_right(refused.message)):
        grant = f"an administrator can grant this right with the ClusterRole {right.role}"
        return [f"{refused.message}; {grant}: {right.command}"]
    return refused.problems()
