"""Why a request of a front door fails; each door maps the type to its own terms, an exit code or an HTTP status.

Services also raise ``contract.resource.InvalidResource`` for a TrainingJob that breaks a rule, and
``cluster.ClusterError`` for what the API server refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_garden.contract.names import GROUP, KIND

if TYPE_CHECKING:
    from model_garden.cluster import ClusterError


class ServiceError(Exception):
    """A request that cannot be done; ``problems`` has one line for each thing that is wrong."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class NotFound(ServiceError):
    """There is no such TrainingJob, or it has no log."""


class Conflict(ServiceError):
    """The state of the cluster forbids the request: the name is taken, or the TrainingJob has ended."""


class KeyReused(ServiceError):
    """An ``Idempotency-Key`` came with another request than the first."""


class BadToken(ServiceError):
    """A list's ``continue`` token is of another list."""


class Unavailable(ServiceError):
    """Something that the request needs from elsewhere cannot be read; the message says what to send in its place."""


class MissingPackages(ServiceError):
    """This installation lacks Python packages that the request needs."""


def cluster_problems(refused: ClusterError) -> list[str]:
    """What the API server refused, one line for each field; a missing CRD is named as such."""
    if refused.status == 404 and refused.reason != "NotFound":
        return [
            f"the {KIND} CRD ({GROUP}) is not installed in this cluster: install Model Garden with its Helm chart or "
            "with kubectl apply -f manifests/operator.yaml"
        ]
    return refused.problems()
