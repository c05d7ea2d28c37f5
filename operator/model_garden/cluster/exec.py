"""Runs a command in a container of a pod, with its input and output as streams, by the caller's own credentials.

Protocol: a WebSocket of the subprotocol v4.channel.k8s.io, which the API server passes on to the kubelet as it is. The
first byte of each binary message names its channel: 0 stdin, 1 stdout, 2 stderr, 3 the outcome as a ``Status``. Stdin
cannot be closed before the command ends, so the command must know from its content where it ends.
Source: https://pkg.go.dev/k8s.io/apimachinery/pkg/util/remotecommand#pkg-constants
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from socket import SHUT_RDWR
from typing import Any
from urllib.parse import urlencode

from model_garden.cluster.client import Cluster
from model_garden.cluster.errors import UNREACHABLE, ClusterError
from model_garden.cluster.resources import PODS

PROTOCOL = "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS = range(4)
MESSAGE_BYTES = 256 * 1024
"""Bytes of one message to stdin; a kubelet refuses one above 32 MiB."""
WAITING_MESSAGES = 8
"""Messages of stdout that wait to be read before the command must wait."""
STDERR_BYTES = 1024 * 1024
PING_SECONDS = 20.0
"""Seconds between two pings, so that no proxy on the way closes a connection that is silent while the command works."""
DEAD_SECONDS = 300.0
"""Seconds without a message or an answer to a ping after which the connection counts as lost."""
CONNECT_SECONDS = 30.0
CLOSE_SECONDS = 2.0
CLOSE_LOOK_SECONDS = 0.005


class Execution:
    """A command that runs. ``write`` and ``read`` carry its streams; ``wait`` tells how it ended."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._connection = socket.get_extra_info("socket")
        self._stdout: asyncio.Queue[bytes] = asyncio.Queue(WAITING_MESSAGES)
        self._stderr = bytearray()
        self._status: Mapping[str, Any] | None = None
        self._ended = asyncio.Event()
        self._read_all = False
        self._heard: float | None = time.monotonic()  # None while what was heard waits to be read

    async def write(self, data: bytes) -> None:
        """Send ``data`` to stdin; waits while the command does not read it.

        Raises:
            ClusterError: the command has ended, or the connection is lost.
        """
        view = memoryview(data)
        for start in range(0, len(view), MESSAGE_BYTES):
            if self._ended.is_set():
                raise self._lost("the command ended before it read all of its input")
            try:
                await self._socket.send_bytes(bytes([STDIN]) + view[start : start + MESSAGE_BYTES])
            except (OSError, RuntimeError) as broken:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_SECONDS):  # what it said last may still be on its way
                        await self._ended.wait()
                raise self._lost(str(broken)) from broken

    async def read(self) -> bytes:
        """The next piece of stdout; empty from its end on."""
        if self._read_all:
            return b""
        piece = await self._stdout.get()
        self._read_all = not piece
        return piece

    async def wait(self) -> int:
        """The exit code. All of stdout must be read before.

        Raises:
            ClusterError: the connection was lost before the command ended, or the command could not be started.
        """
        await self._ended.wait()
        if self._status is None:
            raise self._lost("the connection closed before the command ended")
        return exit_code(self._status)

    @property
    def stderr(self) -> str:
        """The last MiB of stderr."""
        return self._stderr.decode(errors="replace")

    def _lost(self, why: str) -> ClusterError:
        if self._status is not None and (said := self.stderr.strip() or self._status.get("message")):
            why = f"{why}: {said}"
        return ClusterError(0, UNREACHABLE, f"the pod's command was interrupted: {why}")

    async def receive(self) -> None:
        """Take apart what the other side sends, until it closes."""
        from aiohttp import WSMsgType

        with suppress(ValueError, ConnectionError):  # an outcome that is no JSON is none
            async for message in self._socket:
                self._heard = None
                if message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is WSMsgType.BINARY and len(message.data) > 1:
                    await self._take(message.data[0], message.data[1:])
                self._heard = time.monotonic()
        self._ended.set()
        await self._stdout.put(b"")

    async def _take(self, channel: int, data: bytes) -> None:
        if channel == STDOUT:
            await self._stdout.put(data)
        elif channel == STDERR:
            self._stderr += data
            del self._stderr[:-STDERR_BYTES]
        elif channel == STATUS:
            self._status = json.loads(data)
            self._ended.set()

    async def close(self) -> None:
        """End the connection. What a command that goes on did not read yet is dropped, so that nobody waits for it."""
        if not self._ended.is_set():
            self._shut_down()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()
                self._shut_down()
                while self._connection.fileno() != -1:  # aiohttp does not wait for the end of TLS
                    await asyncio.sleep(CLOSE_LOOK_SECONDS)

    def _shut_down(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(SHUT_RDWR)

    async def ping(self) -> None:
        """Keep the connection alive, and end one on which nothing is heard any more: ``wait`` then raises."""
        with suppress(ConnectionError, RuntimeError):
            while self._heard is None or time.monotonic() - self._heard < DEAD_SECONDS:
                await asyncio.sleep(PING_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(PING_SECONDS):
                        await self._socket.ping()
        self._shut_down()


@asynccontextmanager
async def execute(
    cluster: Cluster, pod: str, command: list[str], namespace: str | None = None, *, container: str
) -> AsyncIterator[Execution]:
    """Start ``command`` in a running container. Leaving the context closes the connection.

    Raises:
        ClusterError: the caller may not run commands, the pod or its container is gone, or nothing answers.
    """
    socket = await _connect(cluster, pod, command, namespace or cluster.namespace, container)
    execution = Execution(socket)
    tasks = [asyncio.create_task(execution.receive()), asyncio.create_task(execution.ping())]
    try:
        yield execution
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await execution.close()


async def _connect(cluster: Cluster, pod: str, command: list[str], namespace: str, container: str) -> Any:
    import aiohttp

    query = [("command", word) for word in command] + [("container", container)]
    query += [(stream, "true") for stream in ("stdin", "stdout", "stderr")]
    url = f"{cluster.host}{PODS.path(namespace, pod, 'exec')}?{urlencode(query)}"
    try:
        return await cluster.web_socket(url, PROTOCOL, CONNECT_SECONDS)
    except aiohttp.WSServerHandshakeError as refused:
        raise _refused(refused.status, pod, namespace) from refused


def _refused(status: int, pod: str, namespace: str) -> ClusterError:
    """The error of a handshake, whose answer's body aiohttp does not give."""
    if status == 401:
        return ClusterError(401, "Unauthorized", "the API server does not accept your credentials; log in again")
    if status == 403:
        what = f"you may not run commands in pods of namespace {namespace}"
        fix = 'ask for a role with the verbs "get" and "create" on the resource "pods/exec"'
        return ClusterError(403, "Forbidden", f"{what}; {fix}")
    if status in (400, 404):
        return ClusterError(404, "NotFound", f"pod {pod} of namespace {namespace} is not running any more")
    why = f"the command in pod {pod} could not be started: the API server answered {status}"
    return ClusterError(status, f"HTTP{status}", f"{why}; it may not reach the node's kubelet")


def exit_code(status: Mapping[str, Any]) -> int:
    """The exit code that a ``Status`` of the last channel gives.

    Raises:
        ClusterError: the command could not be run.
    """
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    codes = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
    if not codes or status.get("reason") != "NonZeroExitCode":
        reason = str(status.get("reason") or "InternalError")
        raise ClusterError(500, reason, f"the pod's command failed: {status.get('message') or reason}")
    return int(codes[0])
