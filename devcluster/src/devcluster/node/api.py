"""A small client of the API server for the node: plain HTTPS and JSON, a client certificate, list-and-watch."""

import asyncio
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

Object = dict[str, Any]

STRATEGIC_MERGE = "application/strategic-merge-patch+json"

BINDING_KNOWN_WITHIN = 3.0
"""Seconds."""

log = logging.getLogger(__name__)


class ApiError(Exception):
    """The API server said no; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


UNREACHABLE = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""What a call raises while there is no API server to answer it."""


class Api:
    """Calls the API server as one user, named by a certificate of the cluster."""

    def __init__(self, server: str, pki: Path, user: str) -> None:
        self.server = server
        context = ssl.create_default_context(cafile=pki / "ca.crt")
        context.load_cert_chain(pki / f"{user}.crt", pki / f"{user}.key")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30),
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def get(self, path: str) -> Object:
        """Reads an object or a list."""
        return await self._call("GET", path)

    async def for_pod(self, method: str, path: str, body: Object | None = None) -> Object:
        """Reads or creates what the node may touch only for a pod bound to it.

        The API server's node authorizer learns of a new binding a moment later than the node: until then it says 403.
        """
        deadline = time.monotonic() + BINDING_KNOWN_WITHIN
        while True:
            try:
                return await self._call(method, path, body)
            except ApiError as error:
                if error.status != 403 or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def create(self, path: str, body: Object) -> Object:
        """POSTs an object."""
        return await self._call("POST", path, body)

    async def replace(self, path: str, body: Object) -> Object:
        """PUTs an object."""
        return await self._call("PUT", path, body)

    async def patch(self, path: str, body: Object) -> Object:
        """Merges into an object; lists that have keys (conditions by type) merge by key."""
        return await self._call("PATCH", path, body, content_type=STRATEGIC_MERGE)

    async def delete(self, path: str, body: Object | None = None) -> Object:
        """DELETEs an object."""
        return await self._call("DELETE", path, body)

    async def _call(
        self, method: str, path: str, body: Object | None = None, content_type: str = "application/json"
    ) -> Object:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._session.request(method, self.server + path, data=data, headers=headers) as response:
            answer = await response.read()
            if response.status >= 400:
                raise ApiError(response.status, _message(answer))
            content: Object = json.loads(answer)
            return content

    async def follow(self, path: str, selector: Mapping[str, str] | None = None) -> AsyncIterator[tuple[str, Any]]:
        """Yields ("LIST", objects), then ("ADDED" | "MODIFIED" | "DELETED", object) as it happens, for ever.

        A broken connection or a version too old begins again with a list: the reader takes a list as the whole truth.
        """
        while True:
            try:
                listing = await self._list(path, selector or {})
                yield "LIST", listing["items"]
                async for event in self._watch(path, selector or {}, listing["metadata"]["resourceVersion"]):
                    yield event
            except ApiError as error:
                log.warning("watch of %s: %s", path, error)
                await asyncio.sleep(1)
            except UNREACHABLE:
                await asyncio.sleep(0.3)

    async def _list(self, path: str, selector: Mapping[str, str]) -> Object:
        async with self._session.get(self.server + path, params=selector) as response:
            answer = await response.read()
            if response.status >= 400:
                raise ApiError(response.status, _message(answer))
            content: Object = json.loads(answer)
            return content

    async def _watch(self, path: str, selector: Mapping[str, str], version: str) -> AsyncIterator[tuple[str, Any]]:
        while True:
            params = {**selector, "watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
            forever = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=None)
            async with self._session.get(self.server + path, params=params, timeout=forever) as response:
                if response.status >= 400:
                    raise ApiError(response.status, _message(await response.read()))
                async for event in _lines(response.content):
                    if event["type"] == "ERROR":
                        if event["object"].get("code") != 410:
                            log.warning("watch of %s: %s", path, event["object"].get("message"))
                        return
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[Object]:
    """JSON documents, one a line; a line may be longer than the stream's own limit."""
    pending = b""
    async for chunk in stream.iter_any():
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            yield json.loads(line)


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer).get("message") or answer.decode())
    except (ValueError, AttributeError):
        return answer.decode(errors="replace")
