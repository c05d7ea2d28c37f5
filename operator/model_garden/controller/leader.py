"""Only the replica that holds the Lease works. A leader that loses it exits, and restarts as a follower."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from model_garden.cluster import LEASES, Cluster, ClusterError

_log = logging.getLogger(__name__)

LEASE = "model-garden-operator"
DURATION_SECONDS = 11
"""How long the Lease must be unchanged until another replica takes it."""

GIVE_UP_SECONDS = 9.5
"""Age of the last renewal at which its holder stops, so that it has stopped when another replica starts."""

RENEW_SECONDS = 2.0
"""Time between two renewals."""

LOOK_SECONDS = 0.5
"""Time between two looks of a replica that waits."""

ANSWER_SECONDS = 4.0
"""The longest wait for an answer of the API server."""


class LostLease(RuntimeError):
    """Another replica may work now, so this one must stop at once."""


class Leader:
    """A candidate for the Lease.

    Clocks of two machines are never compared: a holder counts as gone when its record has not changed for the whole
    duration on this machine's clock.
    """

    def __init__(self, cluster: Cluster, identity: str, namespace: str) -> None:
        self._cluster = cluster
        self._identity = identity
        self._namespace = namespace
        self._leads = False
        self._seen: tuple[object, float] = (None, 0.0)
        self._asked = 0.0
        """When the Lease that this replica holds was asked for, on the loop's clock."""

    async def acquire(self) -> None:
        """Return when this replica holds the Lease."""
        _log.info("waiting for the Lease %s/%s", self._namespace, LEASE)
        clock = asyncio.get_running_loop()
        self._asked = clock.time()
        while not await self._try():
            await asyncio.sleep(LOOK_SECONDS)
            self._asked = clock.time()
        self._leads = True
        _log.info("%s became leader", self._identity)

    async def keep(self) -> None:
        """Renew until canceled.

        Raises:
            LostLease: when another replica holds the Lease, or it could not be renewed in time.
        """
        clock = asyncio.get_running_loop()
        renewed = self._asked
        while True:
            try:
                async with asyncio.timeout_at(renewed + GIVE_UP_SECONDS):
                    renewed = await self._renew(clock)
            except TimeoutError:
                raise LostLease(f"the Lease {self._namespace}/{LEASE} could not be renewed") from None

    async def _renew(self, clock: asyncio.AbstractEventLoop) -> float:
        """Try until the Lease is renewed; the time at which that was asked for."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            asked = clock.time()
            if await self._try():
                return asked

    async def release(self) -> None:
        """Give up the Lease, so that the next replica starts at once."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                lease = await self._cluster.get(LEASES, LEASE, self._namespace)
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._cluster.replace(LEASES, LEASE, lease, self._namespace)
        except (ClusterError, TimeoutError) as error:
            _log.warning("the Lease cannot be released: %s", error or "no answer")

    async def _try(self) -> bool:
        """Take or renew the Lease; False if another holds it, or if the cluster does not answer in time."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._take()
        except TimeoutError:
            _log.warning("the API server did not answer about the Lease within %g s", ANSWER_SECONDS)
            return False

    async def _take(self) -> bool:
        try:
            lease = await self._cluster.get(LEASES, LEASE, self._namespace)
        except ClusterError as error:
            if error.status == 404:
                return await self._write(None)
            _log.warning("the Lease cannot be read: %s", error)
            return False
        holder = lease["spec"].get("holderIdentity")
        if holder and holder != self._identity:
            if self._leads:
                raise LostLease(f"the Lease {self._namespace}/{LEASE} is held by {holder} now")
            if not self._expired(lease):
                return False
        return await self._write(lease)

    def _expired(self, lease: dict[str, Any]) -> bool:
        version = lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, time.monotonic())
        duration = int(lease["spec"].get("leaseDurationSeconds") or DURATION_SECONDS)
        return time.monotonic() - self._seen[1] > duration

    async def _write(self, lease: dict[str, Any] | None) -> bool:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        held = lease is not None and lease["spec"].get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION_SECONDS,
            "renewTime": now,
            "acquireTime": lease["spec"].get("acquireTime", now) if lease and held else now,
        }
        try:
            if lease is None:
                body = {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": LEASE},
                    "spec": spec,
                }
                await self._cluster.create(LEASES, body, self._namespace)
            else:
                await self._cluster.replace(LEASES, LEASE, lease | {"spec": spec}, self._namespace)
        except ClusterError as error:
            if error.status != 409:
                _log.warning("the Lease cannot be written: %s", error)
            return False
        return True
