"""Whose credentials a request uses: the caller's bearer token, passed on to the API server, so that RBAC decides.

Without a token, a server that only this machine can reach uses the kubeconfig's credentials, as kubectl would. A
pod's own service account is never used for a caller.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from fastapi import Depends, Query, Request

from model_garden.api.limits import Limits
from model_garden.api.problems import NoToken, Unauthorized
from model_garden.cluster import Cluster, connect, in_pod
from model_garden.services.feed import Feeds
from model_garden.services.listing import Reader
from model_garden.storage.folder import FolderStorage
from model_garden.storage.interface import Storage
from model_garden.storage.pod import PodStorage

PROXY_HEADER = "X-Forwarded-Access-Token"
NEW_TOKEN = "kubectl create token SERVICEACCOUNT prints a new one"
LOG_IN = f"log in to the cluster and send a token as Authorization: Bearer TOKEN; {NEW_TOKEN}"
CLOCK_SECONDS = 60
"""How far the clocks of this server and of the API server may differ."""
NO_PROXY_TOKEN = (
    f"the proxy in front of this server sent no token; let it set Authorization: Bearer TOKEN or {PROXY_HEADER}"
)
NAMESPACE = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
Namespace = Annotated[
    str | None, Query(pattern=NAMESPACE, description="Namespace. Default: that of the token, else of the kubeconfig.")
]


@dataclass(frozen=True)
class Caller:
    """Who asks: a client with the caller's credentials, a namespace, and a key that is the same for the same caller.

    ``storage`` has the data sets and models that jobs of the namespace use.
    """

    cluster: Cluster
    namespace: str
    identity: str
    storage: Storage


class Access:
    """The API server that all requests go to. Use as an async context manager."""

    def __init__(self, own: Cluster, *, own_allowed: bool, proxy_auth: bool = False) -> None:
        self.proxy_auth = proxy_auth
        self._own = own
        self._own_allowed = own_allowed
        self._anonymous = own.anonymous()

    @property
    def needs_token(self) -> bool:
        """Whether each request must bring a token."""
        return not self._own_allowed

    @classmethod
    async def open(cls, context: str | None, *, loopback: bool, proxy_auth: bool = False) -> Self:
        """Read the kubeconfig, or in a pod the address of its API server.

        Args:
            context: a context of the kubeconfig, or None for its current one.
            loopback: whether this machine alone can reach the server.
            proxy_auth: whether a proxy in front sends each caller's token.

        Raises:
            ClusterError: no cluster is configured.
        """
        own_allowed = loopback and not proxy_auth and not in_pod(context)
        return cls(await connect(context), own_allowed=own_allowed, proxy_auth=proxy_auth)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._anonymous.close()
        await self._own.close()

    def caller(self, authorization: str | None, namespace: str | None) -> Caller:
        """The caller that an ``Authorization`` header names.

        Raises:
            Unauthorized: there is no token where one is needed, or it is no bearer token.
        """
        if authorization is None:
            if not self._own_allowed:
                raise NoToken(NO_PROXY_TOKEN if self.proxy_auth else f"no token was sent; {LOG_IN}")
            return _caller(self._own, namespace or self._own.namespace, "own")
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or not token.isascii() or " " in token:
            raise Unauthorized(f"the Authorization header holds no bearer token; {LOG_IN}")
        if (expires := expiry_of(token)) and expires < time.time() - CLOCK_SECONDS:
            ended = datetime.fromtimestamp(expires, UTC)
            raise Unauthorized(f"the token expired at {ended:%H:%M} UTC on {ended:%Y-%m-%d}; {NEW_TOKEN}")
        cluster = self._anonymous.with_token(token)
        identity = hashlib.sha256(token.encode()).hexdigest()
        return _caller(cluster, namespace or namespace_of(token) or cluster.namespace, identity)


def _caller(cluster: Cluster, namespace: str, identity: str) -> Caller:
    return Caller(cluster, namespace, identity, PodStorage(cluster, namespace))


class LocalAccess:
    """The TrainingJobs of this machine: whoever reaches its loopback address may use them."""

    needs_token = False
    proxy_auth = False

    def __init__(self, own: Cluster, workspace: Path) -> None:
        self._own = own
        self._storage = FolderStorage(workspace)

    def caller(self, authorization: str | None, namespace: str | None) -> Caller:
        """The one caller; a token is not looked at."""
        del authorization
        return Caller(self._own, namespace or self._own.namespace, "own", self._storage)


def namespace_of(token: str) -> str | None:
    """The namespace of a service account's token, None for any other.

    It only chooses a default; the API server checks the token.
    Format: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#schema-for-service-account-private-claims
    """
    account = _claims(token).get("kubernetes.io")
    found = account.get("namespace") if isinstance(account, dict) else None
    return found if isinstance(found, str) else None


def expiry_of(token: str) -> float | None:
    """When a token expires, in seconds since 1970; None for one that does not say it. The API server checks it."""
    expires = _claims(token).get("exp")
    return float(expires) if isinstance(expires, int | float) and 0 < expires < 1e11 else None


def _claims(token: str) -> dict[str, Any]:
    """What a JSON Web Token says, unchecked; nothing for a token of another kind."""
    try:
        _, claims, _ = token.split(".")
        decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    except (ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def sent_authorization(request: Request) -> str | None:
    """The ``Authorization`` header, or the token that a trusted proxy sent in its place.

    What a client sends as ``Impersonate-User`` and the like is never passed on: the cluster's client writes its own
    headers.
    """
    access: Access | LocalAccess = request.app.state.access
    sent = request.headers.get("authorization")
    if sent is None and access.proxy_auth and (token := request.headers.get(PROXY_HEADER)):
        return f"Bearer {token}"
    return sent


def limits_of(request: Request) -> Limits:
    """The bounds of the server."""
    found: Limits = request.app.state.limits
    return found


def caller_of(request: Request, namespace: Namespace = None) -> Caller:
    """The request's caller, for ``Depends``."""
    access: Access | LocalAccess = request.app.state.access
    return counted(request, access.caller(sent_authorization(request), namespace))


def counted(request: Request, caller: Caller) -> Caller:
    """The caller, whose request is counted.

    Raises:
        TooManyRequests: the caller sends more than the server answers.
    """
    limits_of(request).rate.take(caller.identity)
    return caller


CallerOf = Annotated[Caller, Depends(caller_of)]


def reader_of_all(request: Request, caller: Caller) -> Reader:
    """Reads all jobs of the caller's namespace."""
    feeds: Feeds = request.app.state.feeds
    return partial(feeds.jobs, caller.cluster, caller.namespace, caller.identity)


def counting(caller_of: Callable[..., Caller]) -> list[Any]:
    """The dependencies of a route that works for seconds, or moves large files, for the caller that one finds."""
    found = Depends(caller_of)

    async def count(request: Request, caller: Caller = found) -> AsyncIterator[None]:
        with limits_of(request).work.entered(caller.identity):
            yield

    return [Depends(count)]


COUNTED = counting(caller_of)
"""The dependencies of a route that works for seconds, or moves large files."""
