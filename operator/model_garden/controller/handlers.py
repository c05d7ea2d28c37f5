"""kopf's part: watch TrainingJobs and tell of each event. It sets no finalizer or annotation and posts nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf

from model_garden.cluster import Cluster
from model_garden.contract import names
from model_garden.controller.store import Key, Store


async def watch_training_jobs(cluster: Cluster, store: Store, namespaces: tuple[str, ...]) -> None:
    """Watch until the process is asked to end (SIGTERM, SIGINT)."""
    registry = kopf.OperatorRegistry()

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        item: dict[str, Any] = dict(event["object"])
        if event["type"] == "DELETED":
            store.remove_training_job(Key(item["metadata"]["namespace"], item["metadata"]["name"]))
        else:
            store.put_training_job(item)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await _connection(cluster)

    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )
    # Not kopf.run_tasks: at the end that waits five seconds for every task of the process, ours too.
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.wait(others)
    for task in done:
        task.result()


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.finalizer = f"{names.GROUP}/unused"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    settings.persistence.diffbase_storage = _NoDiff()
    return settings


class _NoDiff(kopf.DiffBaseStorage):
    """Nothing to compare with: kopf copies and compares every object it sees, which was half of the operator's work."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Of an object nothing is kept."""
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        """Nothing was kept."""

    def store(self, **_: Any) -> None:
        """Nothing is to be kept."""


async def _connection(cluster: Cluster) -> kopf.ConnectionInfo:
    """The cluster client's own address and credentials."""
    configuration = cluster.configuration
    auth = await configuration.auth_settings()
    scheme, _, token = (auth["BearerToken"]["value"] if "BearerToken" in auth else "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )
