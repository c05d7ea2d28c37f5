"""Tries the webhook of a namespace."""

from __future__ import annotations

from uuid import uuid4

from model_garden.cluster import Cluster
from model_garden.controller.webhook import Undelivered, post, read_webhook
from model_garden.controller.webhook_message import SECRET, Webhook, trial_message
from model_garden.services.errors import NotFound, ServiceError


async def try_webhook(cluster: Cluster, namespace: str, *, local: bool) -> Webhook:
    """Post a test message from this machine, and return the webhook that took it.

    Args:
        cluster: with the caller's rights to read the Secret.
        namespace: whose webhook.
        local: whether its address may be a loopback or link-local one.

    Raises:
        NotFound: the namespace has no webhook.
        ServiceError: the Secret is wrong, or the message was not taken.
    """
    try:
        webhook = await read_webhook(cluster, namespace)
        if webhook is None:
            create = f"kubectl create secret generic {SECRET} --namespace {namespace} --from-literal=url=https://…"
            raise NotFound(f"there is no Secret {SECRET} in the namespace {namespace}; create it: {create}")
        await post(webhook, trial_message(namespace, webhook.format, uuid4().hex), local=local)
    except Undelivered as error:
        raise ServiceError(f"the Secret {SECRET} in the namespace {namespace}: {error}") from error
    return webhook
