"""kopf's handlers: start and end of the process, its credentials and health, and each TrainingJob that is seen.

kopf sets no finalizer or annotation and posts nothing: it has no handler that would need one.
"""

from __future__ import annotations

from typing import Any

import kopf

from model_garden.cluster import ClusterError
from model_garden.contract import names
from model_garden.controller.operator import Operator
from model_garden.controller.store import Key


@kopf.on.startup(errors=kopf.ErrorsMode.PERMANENT)
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Set kopf up, and start the operator's own tasks."""
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.finalizer = f"{names.GROUP}/kopf"  # one by kopf's own name may be another operator's
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    settings.persistence.diffbase_storage = _NoDiff()
    operator: Operator = memo.operator
    try:
        await operator.start()
    except (ClusterError, OSError) as error:
        raise kopf.PermanentError(str(error)) from error


@kopf.on.cleanup(errors=kopf.ErrorsMode.PERMANENT)
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """End the operator's own tasks; kopf has ended its own by now."""
    operator: Operator = memo.operator
    await operator.stop()


@kopf.on.login()
async def login(memo: kopf.Memo, **_: Any) -> kopf.ConnectionInfo:
    """The address and credentials of the cluster client."""
    operator: Operator = memo.operator
    configuration = operator.cluster.configuration
    auth = await configuration.auth_settings()
    scheme, _space, token = (auth["BearerToken"]["value"] if "BearerToken" in auth else "").partition(" ")
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


@kopf.on.probe(id="operator")
async def probe(memo: kopf.Memo, **_: Any) -> dict[str, Any]:
    """What ``/healthz`` shows. That it answers is the sign of life: a task that fails ends the process."""
    operator: Operator = memo.operator
    return operator.health()


@kopf.on.event(names.GROUP, names.VERSION, names.PLURAL)
async def seen(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Put a TrainingJob into the store, which wakes the queue; or remove it."""
    operator: Operator = memo.operator
    item: dict[str, Any] = dict(event["object"])
    if event["type"] == "DELETED":
        operator.store.remove_training_job(Key(item["metadata"]["namespace"], item["metadata"]["name"]))
        return
    operator.store.put_training_job(item)
    if event["type"] is None:  # an item of a list: the first one, or one after a gap in the watch
        operator.relisted.set()


class _NoDiff(kopf.DiffBaseStorage):
    """Nothing to compare with: kopf copies and compares every object it sees, which was half of the operator's work."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Of an object nothing is kept."""
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        """Nothing was kept."""

    def store(self, **_: Any) -> None:
        """Nothing is kept."""
