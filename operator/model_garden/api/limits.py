"""How much one caller, and all callers together, may ask for at a time. Who asks for more is answered with 429.

The counts are of this process: with several replicas, each has its own.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from model_garden.api.problems import TooManyRequests, problem

REQUESTS_PER_SECOND = 200.0
REQUESTS_AT_ONCE = 1000
"""What a caller who was silent may ask for at once, before ``REQUESTS_PER_SECOND`` counts."""
MAX_CALLERS = 10_000
MAX_IN_PROGRESS = 2048
HEALTH_PATH = "/healthz"


class Rate:
    """A bucket of requests for each caller, filled at a steady rate."""

    def __init__(self, per_second: float, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._at_once, self._clock = per_second, float(at_once), clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            TooManyRequests: the caller's bucket is empty.
        """
        now = self._clock()
        left, seen = self._left.pop(caller, (self._at_once, now))
        left = min(self._at_once, left + (now - seen) * self._per_second)
        enough = left >= 1
        self._left[caller] = (left - 1 if enough else left, now)
        if len(self._left) > MAX_CALLERS:  # the one who was silent longest
            self._left.popitem(last=False)
        if not enough:
            raise TooManyRequests(f"more than {self._per_second:.0f} requests per second from one caller", 1)


class Gate:
    """Lets so many in at a time."""

    def __init__(self, what: str, per_caller: int, in_all: int, retry_seconds: int) -> None:
        self._what, self._per_caller, self._in_all, self._retry = what, per_caller, in_all, retry_seconds
        self._inside: Counter[str] = Counter()

    @contextmanager
    def entered(self, caller: str) -> Iterator[None]:
        """Be inside for as long as the context lasts.

        Raises:
            TooManyRequests: the caller, or all callers together, have too many inside.
        """
        if self._inside[caller] >= self._per_caller:
            raise TooManyRequests(f"{self._per_caller} {self._what} of this caller are open", self._retry)
        if self._inside.total() >= self._in_all:
            raise TooManyRequests(f"{self._in_all} {self._what} of all callers are open", self._retry)
        self._inside[caller] += 1
        try:
            yield
        finally:
            self._inside[caller] -= 1
            self._inside += Counter()  # forget callers with none


class Limits:
    """The bounds of one server."""

    def __init__(self) -> None:
        self.rate = Rate(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE)
        self.streams = Gate("live streams", per_caller=256, in_all=1024, retry_seconds=15)
        self.work = Gate("estimates, checks and transfers", per_caller=8, in_all=32, retry_seconds=2)


class InProgress:
    """Middleware that bounds the requests in progress."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it on."""
        if scope["type"] != "http" or scope["path"] == HEALTH_PATH:
            await self._app(scope, receive, send)
            return
        if self._count >= MAX_IN_PROGRESS:
            detail = f"{MAX_IN_PROGRESS} requests are in progress; try again"
            await problem(503, "Overloaded", detail, headers={"Retry-After": "5"})(scope, receive, send)
            return
        self._count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._count -= 1
