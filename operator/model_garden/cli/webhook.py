"""``webhook test``."""

from __future__ import annotations

from model_garden.cli.access import with_cluster
from model_garden.cli.output import note
from model_garden.cluster import Cluster
from model_garden.services.webhook import try_webhook


def send_test(*, local: bool, namespace: str | None, context: str | None) -> None:
    """Post a test message, and say which ends the webhook is told of."""

    async def work(cluster: Cluster, namespace: str) -> str:
        webhook = await try_webhook(cluster, namespace, local=local)
        return (
            f"the webhook of the namespace {namespace} took a test message; it is told of {', '.join(webhook.events)}"
        )

    note(with_cluster(work, context=context, namespace=namespace))
