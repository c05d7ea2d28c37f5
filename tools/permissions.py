"""The one list of what the operator may do in a cluster: the chart's roles, the manifests and a reference page.

`tests/controller/test_rights.py` runs the operator with exactly these permissions, and reads in the API server's audit
log that each was used and that none was missing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from model_garden.cluster import (
    DEVICE_CLASSES,
    EVENTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
    QUEUE_VISIBILITY,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    SECRETS,
    SERVICES,
    TRAINING_JOBS,
    WORKLOADS,
    Resource,
)
from model_garden.controller.leader import LEASE
from model_garden.controller.webhook_message import SECRET
from tools.reference.markdown import page, table

HEADER = "# Generated from tools/permissions.py by `make generate`; change that list, not this file.\n"


@dataclass(frozen=True)
class Permission:
    """Verbs for one kind of object, or for its ``subresource``, or for the one object ``name``."""

    resource: Resource
    verbs: str
    why: str
    subresource: str = ""
    name: str = ""

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.resource.api_version.rpartition("/")[0]

    @property
    def plural(self) -> str:
        """The resource as a role names it, such as ``pods/log``."""
        return "/".join(part for part in (self.resource.plural, self.subresource) if part)

    def rule(self) -> dict[str, Any]:
        """A rule of a Role or ClusterRole."""
        names = {"resourceNames": [self.name]} if self.name else {}
        return {"apiGroups": [self.group], "resources": [self.plural], **names, "verbs": self.verbs.split()}


IN_NAMESPACES = (
    Permission(TRAINING_JOBS, "get list watch", "to see which jobs exist, and what changes"),
    Permission(TRAINING_JOBS, "patch", "to write phase, progress and results", "status"),
    Permission(
        TRAINING_JOBS,
        "update",
        "to make a TrainingJob the owner of its Jobs where the API server checks owner references, as OpenShift's does",
        "finalizers",
    ),
    Permission(JOBS, "get list watch create patch delete", "to run, suspend, resume and remove the work of a job"),
    Permission(PODS, "get list watch patch", "to see why a pod waits or failed, and to pass on a wish to stop"),
    Permission(PODS, "get", "to read progress and results", "log"),
    Permission(SERVICES, "get create", "for the headless Service of a job on several nodes"),
    Permission(EVENTS, "list create", "to read why a pod cannot start, and to report changes of phase"),
    Permission(RESOURCE_CLAIMS, "get", "to say which claim of devices does not exist"),
    Permission(RESOURCE_CLAIM_TEMPLATES, "get", "to say which template of such claims does not exist"),
)
"""In each namespace that the operator serves: by a Role with ``watchNamespaces``, else by the ClusterRole."""

WITH_KUEUE = (
    Permission(
        WORKLOADS,
        "list watch patch",
        "to read why a job waits in Kueue, and to suspend and resume a job that Kueue manages",
    ),
    Permission(QUEUE_VISIBILITY, "get", "to read the place of a job in line", "pendingworkloads"),
)
"""In each namespace that the operator serves too; used only in a cluster with Kueue."""

WITH_WEBHOOKS = (Permission(SECRETS, "get", "to read the webhook of a namespace", name=SECRET),)
"""In each namespace that the operator serves, with ``webhooks.enabled``."""

IN_CLUSTER = (
    Permission(NODES, "list", "to refuse a job that no GPU of the cluster can hold"),
    Permission(DEVICE_CLASSES, "list", "to say which DeviceClass of a claim does not exist"),
    Permission(RESOURCE_SLICES, "list", "to say that no node offers devices of a claim's driver"),
)
"""Only where the operator serves all namespaces."""

FOR_LEASE = (
    Permission(LEASES, "create", "to choose the operator that works"),
    Permission(LEASES, "get update", "the same", name=LEASE),
)
"""In the operator's own namespace."""

INTRODUCTION = """
These are all permissions of the operator's ServiceAccount. The [Helm chart](../install.md) and
`manifests/operator.yaml` make their roles from the same list. A test runs whole jobs with them on a real API server and
reads its audit log: each permission was used, and no request was refused.

With `watchNamespaces`, a Role in each of these namespaces has the first groups, and the operator has no permission for
the whole cluster. It then does not compare a job's memory estimate with the GPUs of the nodes, and does not look for
the DeviceClasses and devices of claims.
"""


def permissions_yaml() -> str:
    """The rules, for the chart's templates."""
    groups = {
        "namespaces": (*IN_NAMESPACES, *WITH_KUEUE),
        "webhooks": WITH_WEBHOOKS,
        "cluster": IN_CLUSTER,
        "lease": FOR_LEASE,
    }
    text = io.StringIO()
    YAML().dump({name: [one.rule() for one in permissions] for name, permissions in groups.items()}, text)
    return HEADER + text.getvalue()


def permissions_reference() -> str:
    """docs/reference/permissions.md."""
    sections = [
        ("In each namespace that it serves", IN_NAMESPACES),
        ("In each namespace that it serves, in a cluster with Kueue", WITH_KUEUE),
        ("In each namespace that it serves, with `webhooks.enabled`", WITH_WEBHOOKS),
        ("In the cluster, if it serves all namespaces", IN_CLUSTER),
        ("In its own namespace", FOR_LEASE),
    ]
    parts = [f"## {title}\n\n{_table(permissions)}" for title, permissions in sections]
    return page("Permissions of the operator", "tools/permissions.py", INTRODUCTION, *parts)


def _table(permissions: Sequence[Permission]) -> str:
    return table(["resource", "API group", "verbs", "why"], map(_row, permissions))


def _row(one: Permission) -> tuple[str, ...]:
    name = f" named `{one.name}`" if one.name else ""
    return f"`{one.plural}`{name}", f"`{one.group}`" if one.group else "core", one.verbs.replace(" ", ", "), one.why
