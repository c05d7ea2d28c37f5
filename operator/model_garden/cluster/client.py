"""A small asynchronous client of plain dicts: what the operator and the command line need of the API server, no more.

Typed models of the Kubernetes client dominate an operator's memory and import time, so only its configuration and its
HTTP layer are used.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self
from urllib.parse import urlencode

from pydantic import TypeAdapter

from model_garden.cluster.configuration import load, remove_credentials
from model_garden.cluster.errors import UNREACHABLE, ClusterError, from_body
from model_garden.cluster.resources import PODS, USER_REVIEWS, Resource

Object = dict[str, Any]
Propagation = Literal["Background", "Foreground", "Orphan"]

PAGE = 500
REQUEST_SECONDS = 30
_TOO_MANY_REQUESTS_TRIES = 4
_JSON: TypeAdapter[Any] = TypeAdapter(Any)
"""Reads a list of hundreds of jobs several times as fast as the standard library."""


@dataclass(frozen=True)
class Page:
    """Some objects of a collection, the version of the whole, and the token of the next page; None on the last one.

    Attributes:
        remaining: how many objects follow; None where the API server does not say, as with a selector.
    """

    items: list[Object]
    resource_version: str
    token: str | None
    remaining: int | None


@dataclass(frozen=True)
class Listing:
    """The objects of a collection, and the version from which a watch continues."""

    items: list[Object]
    resource_version: str


async def connect(context: str | None = None) -> Cluster:
    """A client of the cluster that the environment names (see ``configuration.load``).

    Raises:
        ClusterError: when no cluster is configured; an unreachable one shows at the first request.
    """
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.client.rest import RESTClientObject

    # CPython gives each TLS connection a read buffer of 256 KiB; a TLS record has at most 16. An operator that follows
    # the logs of 200 pods keeps 50 MiB for it. Where the attribute does not exist, setting it does nothing.
    asyncio.sslproto.SSLProtocol.max_size = 16 * 1024
    configuration = Configuration()
    configuration.connection_pool_maxsize = 0  # no bound: each log that is followed holds a connection
    namespace = await load(configuration, context)
    return Cluster(configuration, RESTClientObject(configuration), namespace, partial(load, configuration, context))


class Cluster:
    """One API server. Use as an async context manager, or call ``close``.

    Every method raises ClusterError. ``namespace`` is the context's default namespace. ``on_request`` is called for
    each answer with the method, the plural and the HTTP status.
    """

    def __init__(
        self, configuration: Any, rest: Any, namespace: str, reload: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        self.namespace = namespace
        self.on_request: Callable[[str, str, int], None] = lambda _method, _plural, _status: None
        self.configuration = configuration
        self._rest = rest
        self._reload = reload

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._rest.close()

    def anonymous(self) -> Cluster:
        """The same API server without any credentials, with connections of its own; to be closed too."""
        import aiohttp
        from kubernetes.aio.client.rest import RESTClientObject

        configuration = copy.copy(self.configuration)
        remove_credentials(configuration)
        # No cookie of one caller is ever sent for another.
        configuration.client_session_kwargs = {"cookie_jar": aiohttp.DummyCookieJar()}
        return Cluster(configuration, RESTClientObject(configuration), self.namespace)

    def with_token(self, token: str, namespace: str | None = None) -> Cluster:
        """An anonymous client with a caller's bearer token, over the same connections; it needs no closing."""
        configuration = copy.copy(self.configuration)
        configuration.api_key = {"BearerToken": f"Bearer {token}"}
        return Cluster(configuration, self._rest, namespace or self.namespace)

    @property
    def host(self) -> str:
        """The API server's address."""
        return str(self.configuration.host)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """One object; ``namespace`` is the default one when None, here and in the methods below."""
        return await self._json("GET", resource, self._path(resource, namespace, name))

    async def page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        limit: int = PAGE,
        token: str | None = None,
        version: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
    ) -> Page:
        """One page of a collection; ``namespace=None`` means all namespaces.

        Args:
            resource: the kind.
            namespace: one namespace, or None for all.
            limit: the most objects of the page.
            token: the token of the page before; one that expired raises status 410.
            version: the collection as it was at this ``resourceVersion``; one that is too old raises status 410.
            labels: a label selector.
            fields: a field selector.
        """
        query = {"limit": str(limit)} | _selectors(labels, fields)
        if token:
            query["continue"] = token
        elif version:
            query |= {"resourceVersion": version, "resourceVersionMatch": "Exact"}
        found = await self._json("GET", resource, resource.path(namespace), query)
        metadata = found["metadata"]
        token = metadata.get("continue") or None
        remaining = metadata.get("remainingItemCount") if token else 0
        return Page(found.get("items") or [], metadata["resourceVersion"], token, remaining)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        version: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        trim: Callable[[Object], Object] = lambda item: item,
    ) -> Listing:
        """A whole collection, read in pages; arguments as for ``page``.

        ``trim`` is applied to each object on arrival, so that a page is small before the next one comes.
        """
        items: list[Object] = []
        token: str | None = None
        while True:
            try:
                page = await self.page(resource, namespace, token=token, version=version, labels=labels, fields=fields)
            except ClusterError as error:
                if error.status != 410 or token is None:
                    raise
                items.clear()  # the token outlived its snapshot: from the start
                token = None
                continue
            items += map(trim, page.items)
            if page.token is None:
                return Listing(items, page.resource_version)
            token = page.token

    async def create(
        self, resource: Resource, body: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Create an object and return it as stored; ``dry_run`` lets the server check it without storing."""
        namespace = namespace or body.get("metadata", {}).get("namespace")
        query = {"dryRun": "All"} if dry_run else {}
        query["fieldValidation"] = "Strict"
        return await self._json("POST", resource, self._path(resource, namespace), query, body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Object,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> Object:
        """Merge ``body`` into an object (RFC 7386: None removes a key, lists are replaced); return the result."""
        path = self._path(resource, namespace, name, subresource)
        return await self._json("PATCH", resource, path, {}, body, content_type="application/merge-patch+json")

    async def replace(self, resource: Resource, name: str, body: Object, namespace: str | None = None) -> Object:
        """Put ``body`` in an object's place; a stale ``metadata.resourceVersion`` raises reason ``Conflict``."""
        return await self._json("PUT", resource, self._path(resource, namespace, name), {}, body)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation = "Background",
        uid: str | None = None,
    ) -> None:
        """Delete an object; with ``uid`` only that very one, so that a namesake created since stays (``Conflict``)."""
        body: Object = {"propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        await self._json("DELETE", resource, self._path(resource, namespace, name), {}, body)

    async def read_log(
        self, pod: str, namespace: str | None = None, *, container: str, tail_lines: int | None = None
    ) -> str:
        """A container's log as it stands, or its last lines."""
        query = {"container": container} | ({"tailLines": str(tail_lines)} if tail_lines is not None else {})
        async with self.open("GET", PODS, self._path(PODS, namespace, pod, "log"), query) as response:
            return (await _read(response)).decode(errors="replace")

    async def raw(self, path: str) -> bytes:
        """The body of a GET of any path, such as ``/version`` or ``/openapi/v3``."""
        async with self.open("GET", Resource("", "", ""), path, {}) as response:
            return await _read(response)

    async def user(self) -> str:
        """The name by which the API server knows the credentials.

        Who may not ask (an administrator can take this right away) is known all the same: the name is then empty.
        """
        body = {"apiVersion": USER_REVIEWS.api_version, "kind": USER_REVIEWS.kind}
        try:
            review = await self._json("POST", USER_REVIEWS, USER_REVIEWS.path(), {}, body)
        except ClusterError as refused:
            if refused.status == 403:
                return ""
            raise
        return str(review["status"]["userInfo"].get("username", ""))

    def _path(
        self, resource: Resource, namespace: str | None, name: str | None = None, subresource: str | None = None
    ) -> str:
        if name in ("", ".", ".."):  # the path would be that of a collection, and a deletion would delete all of it
            raise ClusterError(422, "Invalid", f"the name of the {resource.kind} is {name!r}, which names no object")
        return resource.path(namespace or self.namespace, name, subresource)

    async def _json(
        self,
        method: str,
        resource: Resource,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        async with self.open(method, resource, path, query or {}, body, content_type) as response:
            answer: Object = _JSON.validate_json(await _read(response))
            return answer

    @asynccontextmanager
    async def open(
        self,
        method: str,
        resource: Resource,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        content_type: str = "application/json",
        timeout: Any = None,
    ) -> AsyncIterator[Any]:
        """A successful answer whose body is still to be read: an ``aiohttp.ClientResponse``.

        After 429 it waits as long as the server asks and retries. After 401 it loads the credentials again, once, since
        tokens rotate.
        """
        url = f"{self.host}{path}" + (f"?{urlencode(query)}" if query else "")
        reloaded = False
        for attempt in range(_TOO_MANY_REQUESTS_TRIES):
            response = await self._send(method, url, body, content_type, timeout)
            self.on_request(method, resource.plural, response.status)
            if response.status < 400:
                try:
                    yield response
                finally:
                    response.release()
                return
            error = from_body(response.status, await _read(response), response.headers.get("Retry-After"))
            response.release()
            if error.status == 401 and self._reload and not reloaded:
                reloaded = True
                await self._reload()
            elif error.status == 429 and error.retry_after is not None and attempt + 1 < _TOO_MANY_REQUESTS_TRIES:
                await asyncio.sleep(min(error.retry_after, REQUEST_SECONDS))
            else:
                raise error

    async def web_socket(self, url: str, protocol: str, seconds: float) -> Any:
        """An ``aiohttp.ClientWebSocketResponse`` that speaks ``protocol``, opened within ``seconds``.

        Raises:
            ClusterError: nothing answers.
            aiohttp.WSServerHandshakeError: the API server refused.
        """
        import aiohttp

        session = self._rest.pool_manager = self._rest.pool_manager or self._rest._create_pool_manager()
        proxy = {"proxy": self.configuration.proxy} if self.configuration.proxy else {}
        if self.configuration.tls_server_name:
            proxy["server_hostname"] = self.configuration.tls_server_name
        try:
            async with asyncio.timeout(seconds):
                return await session.ws_connect(
                    url, protocols=(protocol,), headers=await self._authorization(), autoping=False, **proxy
                )
        except aiohttp.WSServerHandshakeError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(self.host, error) from error

    async def _authorization(self) -> dict[str, str]:
        auth = await self.configuration.auth_settings()
        return {"Authorization": auth["BearerToken"]["value"]} if "BearerToken" in auth else {}

    async def _send(self, method: str, url: str, body: Object | None, content_type: str, timeout: Any) -> Any:
        import aiohttp

        headers = {"Content-Type": content_type, "Accept": "application/json"} | await self._authorization()
        timeout = timeout or aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            answer = await self._rest.request(method, url, headers=headers, body=body, _request_timeout=timeout)
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(self.host, error) from error
        return answer.response


async def _read(response: Any) -> bytes:
    import aiohttp

    try:
        body: bytes = await response.read()
    except (aiohttp.ClientError, OSError) as error:
        raise _unreachable(str(response.url.origin()), error) from error
    return body


def _unreachable(host: str, error: Exception) -> ClusterError:
    return ClusterError(0, UNREACHABLE, f"the API server at {host} does not answer: {error or type(error).__name__}")


def _selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    wanted = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in wanted.items() if value}
