"""``data ls``, ``data rm``, ``models ls`` and ``models rm``, and what all commands about stored files share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from model_garden.cli.access import with_cluster
from model_garden.cli.output import FAILED, CommandError, note, print_json, print_table
from model_garden.cluster import Cluster
from model_garden.services import format
from model_garden.services.errors import ServiceError
from model_garden.services.in_use import refuse_in_use
from model_garden.storage.interface import StoredDataset, StoredModel
from model_garden.storage.pod import PodStorage, place

T = TypeVar("T")


@dataclass(frozen=True)
class Where:
    """The flags that name a cluster and its claims; None is the default."""

    namespace: str | None = None
    context: str | None = None
    data_claim: str | None = None
    models_claim: str | None = None
    image: str | None = None

    def storage(self, cluster: Cluster, namespace: str) -> PodStorage:
        """The storage, which tells on stderr what it waits for."""
        return PodStorage(cluster, namespace, place(self.data_claim, self.models_claim, self.image), note)


def with_storage(work: Callable[[PodStorage], Awaitable[T]], where: Where) -> T:
    """Connect to the cluster and run ``work``."""

    async def session(cluster: Cluster, namespace: str) -> T:
        return await work(where.storage(cluster, namespace))

    return with_cluster(session, context=where.context, namespace=where.namespace)


def list_datasets(where: Where, output: str) -> None:
    """Print the data sets."""

    def row(one: StoredDataset) -> dict[str, str]:
        return {
            "NAME": one.name,
            "FILES": str(one.files),
            "SIZE": format.size(one.size),
            "AGE": format.age(one.modified.isoformat()),
            "PATH": one.path,
        }

    _print(with_storage(lambda storage: storage.datasets(), where), output, row, "data sets")


def list_models(where: Where, output: str) -> None:
    """Print the models."""

    def row(one: StoredModel) -> dict[str, str]:
        return {
            "NAME": one.name,
            "KIND": ",".join(one.kinds),
            "SIZE": format.size(one.size),
            "AGE": format.age(one.modified.isoformat()),
            "BASE MODEL": one.base_model or "",
            "PATH": one.path,
        }

    _print(with_storage(lambda storage: storage.models(), where), output, row, "models")


def _print(found: Sequence[T], output: str, row: Callable[[T], dict[str, str]], what: str) -> None:
    if output == "json":
        print_json([one.model_dump(mode="json") for one in found])  # type: ignore[attr-defined]
    elif output == "name":
        for one in found:
            print(one.name)  # type: ignore[attr-defined]
    elif found:
        print_table([row(one) for one in found], {})
    else:
        note(f"no {what}")


def remove(names: list[str], folder: str, where: Where) -> None:
    """Delete data sets or models; those that cannot be deleted are reported after the others are.

    Args:
        names: their names or paths.
        folder: ``data`` or ``models``.
        where: the cluster and its claims.
    """

    async def work(cluster: Cluster, namespace: str) -> list[str]:
        storage = where.storage(cluster, namespace)
        problems: list[str] = []
        for name in names:
            path = name if name.startswith(("./", f"{folder}/", "/workspace/")) else f"./{folder}/{name}"
            try:
                await refuse_in_use(cluster, namespace, path)
                await storage.remove(path)
                print(f"{path} deleted", flush=True)
            except ServiceError as failed:
                problems += failed.problems
        return problems

    if problems := with_cluster(work, context=where.context, namespace=where.namespace):
        raise CommandError(problems, FAILED)
