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
MOST_WAITING = 200
"""Messages of one namespace that wait, with those that are being sent."""
AT_ONCE = 5
"""Messages of one namespace that are being sent."""
_CLOSE_SECONDS = 2.0


class Undelivered(Exception):
    """The webhook did not take a message. The text says why, without the URL.

    Attributes:
        final: the same request would fail again.
    """

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class Forbidden(Undelivered):
    """The Secret may not be read, whether there is one or not."""


class _Line:
    """The messages of one namespace. A webhook that does not answer delays no other namespace's."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.slots = asyncio.Semaphore(AT_ONCE)


class WebhookSender:
    """One task for each job that ends in a namespace with a webhook."""

    def __init__(self, cluster: Cluster, events: EventPoster, *, local: bool) -> None:
        self._cluster = cluster
        self._events = events
        self._local = local
        self._lines: dict[str, _Line] = {}
        self._may_read = True

    def job_ended(self, job: Object) -> None:
        """Tell the webhook of the job's namespace soon; with 200 messages of the namespace that wait, none is added."""
        namespace = job["metadata"]["namespace"]
        line = self._lines.setdefault(namespace, _Line())
        if len(line.tasks) >= MOST_WAITING:
            self._give_up(job, f"{MOST_WAITING} messages of the namespace wait already")
            return
        task = asyncio.create_task(self._tell(job, line.slots))
        line.tasks.add(task)
        task.add_done_callback(lambda done: self._ended(namespace, done))

    def _ended(self, namespace: str, task: asyncio.Task[None]) -> None:
        line = self._lines[namespace]
        line.tasks.discard(task)
        if not line.tasks:
            del self._lines[namespace]

    async def close(self) -> None:
        """Wait for what is being sent, at most two seconds, and post an Event for the rest: the process is ending."""
        tasks = {task for line in self._lines.values() for task in line.tasks}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
            _log.warning("the process ends, and %d messages to webhooks are not sent", len(late))

    async def _tell(self, job: Object, slots: asyncio.Semaphore) -> None:
        try:
            webhook = await persist(lambda: read_webhook(self._cluster, job["metadata"]["namespace"]))
            if webhook and job["status"]["phase"] in webhook.events:
                await self._send(webhook, job, slots)
        except Forbidden as error:
            if self._may_read:
                self._may_read = False
                _log.warning("webhooks are on, but the Secret %s %s; see docs/observability.md", SECRET, error)
        except Undelivered as error:
            self._give_up(job, str(error))
        except Exception:
            _log.exception("an unexpected error kept the webhook from being told of the end of the job")

    async def _send(self, webhook: Webhook, job: Object, slots: asyncio.Semaphore) -> None:
        message = end_of(job, webhook.format)

        async def once() -> None:
            async with slots:
                await post(webhook, message, local=self._local)

        try:
            await persist(once)
        except asyncio.CancelledError:
            self._give_up(job, "the operator stopped before the message was taken")
            raise
        _log.info("the webhook was told of the end of the job")

    def _give_up(self, job: Object, why: str) -> None:
        _log.warning("the webhook was not told of the end of the job: %s", why)
        self._events.post(job, "WebhookFailed", f"the Secret {SECRET}: {why}", "Warning")


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
        Undelivered: the Secret cannot be read, or is wrong; Forbidden if it may not be read.
    """
    try:
        return parse_webhook(await cluster.get(SECRETS, SECRET, namespace))
    except ClusterError as error:
        if error.status == 404:
            return None
        if error.status == 403:
            raise Forbidden(f"cannot be read: {error}", final=True) from error
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
