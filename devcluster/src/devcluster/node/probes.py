"""Liveness, readiness and startup probes: httpGet, tcpSocket and exec, asked as a kubelet asks them."""

import asyncio
from asyncio.subprocess import DEVNULL, STDOUT
from collections.abc import Callable
from typing import Any

import aiohttp

from devcluster.node.runs import Run, kill_group

Object = dict[str, Any]


async def watch(probe: Object, container: Object, run: Run, report: Callable[[bool, str], None]) -> None:
    """Asks a probe for ever and reports each turn of the answer: (True, "") or (False, what went wrong).

    The first answer counts once it has come successThreshold or failureThreshold times in a row, as do later turns.
    """
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    needed = {True: probe.get("successThreshold", 1), False: probe.get("failureThreshold", 3)}
    streak, last = 0, None
    while True:
        problem = await ask(probe, container, run)
        good = not problem
        streak = streak + 1 if good == last else 1
        last = good
        if streak == needed[good]:
            report(good, problem)
        await asyncio.sleep(probe.get("periodSeconds", 10))


async def ask(probe: Object, container: Object, run: Run) -> str:
    """Asks once; returns what is wrong, or an empty text."""
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
            if "httpGet" in probe:
                return await _http_get(probe["httpGet"], container)
            if "tcpSocket" in probe:
                return await _tcp_socket(probe["tcpSocket"], container)
            if "exec" in probe:
                return await _execute(probe["exec"]["command"], run)
            return f"devcluster knows no probe of kind {', '.join(probe)}"
    except TimeoutError:
        return f"timeout after {probe.get('timeoutSeconds', 1)} s"
    except (OSError, ValueError, aiohttp.ClientError) as error:
        return str(error)


def port_number(port: int | str, container: Object) -> int:
    """The number of a port that may be given by its name."""
    if isinstance(port, int):
        return port
    named = {entry.get("name"): int(entry["containerPort"]) for entry in container.get("ports", [])}
    return named[port] if port in named else int(port)


async def _http_get(action: Object, container: Object) -> str:
    scheme, host = action.get("scheme", "HTTP").lower(), action.get("host", "127.0.0.1")
    path = action.get("path", "/")
    url = f"{scheme}://{host}:{port_number(action['port'], container)}{path if path.startswith('/') else '/' + path}"
    headers = {entry["name"]: entry["value"] for entry in action.get("httpHeaders", [])}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=False, allow_redirects=False) as response,
    ):
        return "" if 200 <= response.status < 400 else f"HTTP probe failed with statuscode: {response.status}"


async def _tcp_socket(action: Object, container: Object) -> str:
    port = port_number(action["port"], container)
    _, writer = await asyncio.open_connection(action.get("host", "127.0.0.1"), port)
    writer.close()
    return ""


async def _execute(command: list[str], run: Run) -> str:
    process = await run.spawn(command, DEVNULL, STDOUT)
    try:
        output, _ = await process.communicate()
    finally:
        kill_group(process)
    return "" if process.returncode == 0 else output.decode(errors="replace").strip() or f"exit {process.returncode}"
