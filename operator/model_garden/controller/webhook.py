"""Posts to the webhook of a namespace when a job ends. It never delays or fails a job, and never shows the URL."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp

from model_garden.cluster import SECRETS, Cluster, ClusterError
from model_garden.contract.ip_addresses import is_local
from model_garden.controller.events import EventPoster
from model_garden.controller.webhook_message import (
    SECRET,
    InvalidWebhook,
    Message,
    Webhook,
    end_of,
    headers,
    parse_webhook,
)

_log = logging.getLogger(__name__)

Object = dict[str, Any]
T = TypeVar("T")

TRY_SECONDS = 10
PAUSES = (1, 5, 30, 120)
"""Seconds before the second try, the third and so on."""
_MOST = 500
_AT_ONCE = 20
_CLOSE_SECONDS = 2.0


class Undelivered(Exception):
    """The webhook did not take a message. The text says why, without the URL.

    Attributes:
        final: the same request would fail again.
    """

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class WebhookSender:
    """One task for each job that ends in a namespace with a webhook."""

    def __init__(self, cluster: Cluster, events: EventPoster, *, local: bool) -> None:
        self._cluster = cluster
        self._events = events
        self._local = local
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def job_ended(self, job: Object) -> None:
        """Tell the webhook of the job's namespace soon; with 500 messages that wait, none is added."""
        if len(self._tasks) >= _MOST:
            _log.warning("the webhook is not told of the end of the job: %d messages wait", _MOST)
            return
        task = asyncio.create_task(self._tell(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what is being sent, at most two seconds: the process is ending."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        for task in late:
            task.cancel()
        if late:
            _log.warning("the process ends, and %d messages to webhooks are not sent", len(late))

    async def _tell(self, job: Object) -> None:
        namespace = job["metadata"]["namespace"]
        try:
            webhook = await persist(lambda: read_webhook(self._cluster, namespace))
            if webhook is None or job["status"]["phase"] not in webhook.events:
                return
            message = end_of(job, webhook.format)
            await persist(lambda: self._post(webhook, message))
            _log.info("the webhook was told of the end of the job")
        except Undelivered as error:
            _log.warning("the webhook was not told of the end of the job: %s", error)
            self._events.post(job, "WebhookFailed", f"the Secret {SECRET}: {error}", "Warning")
        except Exception:
            _log.exception("an unexpected error kept the webhook from being told of the end of the job")

    async def _post(self, webhook: Webhook, message: Message) -> None:
        async with self._slots:
            await post(webhook, message, local=self._local)


async def persist(work: Callable[[], Awaitable[T]]) -> T:
    """Try again after each of ``PAUSES``, unless the error is final.

    Raises:
        Undelivered: the last try failed.
    """
    for pause in PAUSES:
        try:
            return await work()
        except Undelivered as error:
            if error.final:
                raise
            _log.info("the webhook is tried again in %d s: %s", pause, error)
        await asyncio.sleep(pause)
    return await work()


async def read_webhook(cluster: Cluster, namespace: str) -> Webhook | None:
    """The webhook of a namespace; None if it has none.

    Raises:
        Undelivered: the Secret cannot be read, or is wrong.
    """
    try:
        return parse_webhook(await cluster.get(SECRETS, SECRET, namespace))
    except ClusterError as error:
        if error.status == 404:
            return None
        raise Undelivered(f"cannot be read: {error}", final=not error.retryable) from error
    except InvalidWebhook as error:
        raise Undelivered(str(error), final=True) from None


async def post(webhook: Webhook, message: Message, *, local: bool) -> None:
    """Post a message once. Redirects are not followed.

    Args:
        webhook: where.
        message: what.
        local: whether the address may be a loopback or link-local one, or a cloud's metadata service.

    Raises:
        Undelivered: with the reason, without the URL.
    """
    refused: list[str] = []

    def connect(found: Any) -> socket.socket:
        """A socket for an address that the name was resolved to: what is checked is what is connected to."""
        family, kind, protocol, _, address = found
        if not local and is_local(ipaddress.ip_address(address[0].partition("%")[0])):
            refused.append(address[0])
            raise OSError("refused")
        return socket.socket(family, kind, protocol)

    signed = headers(webhook, message, int(time.time()))
    timeout = aiohttp.ClientTimeout(total=TRY_SECONDS)
    connector = aiohttp.TCPConnector(socket_factory=connect)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session,
            session.post(webhook.url, data=message.body, headers=signed, allow_redirects=False) as answer,
        ):
            status = answer.status
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        if refused:
            why = "its url leads to a loopback, link-local or metadata address, which the operator does not connect to"
            raise Undelivered(why, final=True) from None
        raise Undelivered(_reason(error)) from None
    if not 200 <= status < 300:
        redirect = "; redirects are not followed" if 300 <= status < 400 else ""
        again = status in (408, 425, 429) or status >= 500
        raise Undelivered(f"its url answered with HTTP status {status}{redirect}", final=not again)


def _reason(error: Exception) -> str:
    """Why there was no answer. The library's own words name the host, which may be secret."""
    match error:
        case TimeoutError():
            return f"its url did not answer within {TRY_SECONDS} s"
        case aiohttp.ClientConnectorDNSError():
            return "the host of its url has no address"
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLError() | aiohttp.ClientSSLError():
            return "the TLS certificate of its url is not valid"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int() as number)):
            return f"its url cannot be connected to ({os.strerror(number)})"
        case _:
            return f"its url cannot be connected to ({type(error).__name__})"
