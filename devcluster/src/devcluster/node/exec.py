"""Runs a command in a running container: what an `exec` request to the API server ends up at.

The API server passes a WebSocket of the protocol v4.channel.k8s.io on as it is. The first byte of each message names
its channel. Source: https://pkg.go.dev/k8s.io/apimachinery/pkg/util/remotecommand#pkg-constants
"""

import asyncio
import contextlib
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from devcluster.node.container import gone
from devcluster.node.runs import Run, kill_group

PROTOCOL = "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS = range(4)
PIECE = 32 * 1024
"""Bytes of one message, as a kubelet sends them."""
GRACE = 5.0
"""Seconds that a command has after its client left, to tidy up."""
START_FAILED = 126
"""Exit code of a command that could not be started, as container runtimes have it."""

Object = dict[str, Any]


def exec_in(find_run: Callable[[web.Request], Run]) -> Callable[[web.Request], Any]:
    """The handler of `/exec/NAMESPACE/POD/CONTAINER`; `find_run` raises HTTPNotFound."""

    async def handle(request: web.Request) -> web.StreamResponse:
        run = find_run(request)
        socket = web.WebSocketResponse(protocols=(PROTOCOL,), compress=False)
        if not socket.can_prepare(request).protocol:
            text = f"devcluster runs pods as processes; its exec takes a WebSocket of the protocol {PROTOCOL} alone"
            raise web.HTTPNotImplemented(text=text)
        await socket.prepare(request)
        await socket.send_bytes(bytes([STDOUT]))  # says that the connection stands
        status = await _execute(socket, run, request.query.getall("command", []), "input" in request.query)
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(bytes([STATUS]) + json.dumps(status).encode())
            await socket.close()
        return socket

    return handle


async def _execute(socket: web.WebSocketResponse, run: Run, command: list[str], with_input: bool) -> Object:
    """Runs the command until it ends, its container ends or the client leaves; nothing of it goes on long after."""
    container = run.container()
    try:
        process = await run.spawn(command, PIPE if with_input else DEVNULL, PIPE)
    except (OSError, ValueError) as error:
        return _failure("InternalError", f"cannot start {command}: {error}", START_FAILED)
    assert process.stdout and process.stderr and container
    output = asyncio.gather(
        _send(socket, STDOUT, process.stdout), _send(socket, STDERR, process.stderr), process.wait()
    )
    watched: list[asyncio.Future[Any]] = [
        output,
        asyncio.create_task(_receive(socket, process)),
        asyncio.create_task(gone(container)),
    ]
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        await _end(process)
        with contextlib.suppress(ConnectionError):
            await output
    finally:  # the connection may have broken at any place above
        for task in watched:
            task.cancel()
        await _end(process)
    return _status(process)


async def _end(process: Process) -> None:
    """The end of its input, as a kubelet leaves it at, and after the grace period SIGKILL for all of it."""
    if process.stdin:
        process.stdin.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), GRACE)
    kill_group(process)
    await process.wait()


async def _send(socket: web.WebSocketResponse, channel: int, stream: asyncio.StreamReader) -> None:
    while data := await stream.read(PIECE):
        await socket.send_bytes(bytes([channel]) + data)


async def _receive(socket: web.WebSocketResponse, process: Process) -> None:
    """Writes what the client sends to the command, as fast as it reads, until the client leaves."""
    async for message in socket:
        if message.type is WSMsgType.BINARY and message.data[:1] == bytes([STDIN]) and process.stdin:
            with contextlib.suppress(ConnectionError):  # the command closed its input: what else comes is dropped
                process.stdin.write(message.data[1:])
                await process.stdin.drain()


def _status(process: Process) -> Object:
    code = process.returncode or 0
    code = code if code >= 0 else 128 - code
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return _failure("NonZeroExitCode", f"command terminated with non-zero exit code: exit status {code}", code)


def _failure(reason: str, message: str, code: int) -> Object:
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"metadata": {}, "status": "Failure", "message": message, "reason": reason, "details": {"causes": causes}}
