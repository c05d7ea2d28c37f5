"""Whether the cluster can serve the claims of devices that a job names (Dynamic Resource Allocation)."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from model_garden.builders.plan import Plan
from model_garden.cluster import (
    DEVICE_CLASSES,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Cluster,
    ClusterError,
    Resource,
)
from model_garden.contract.pod import ResourceClaim
from model_garden.contract.spec import EffectiveSpec
from model_garden.controller import pod_reasons
from model_garden.controller.pod_reasons import PendingReason

_log = logging.getLogger(__name__)

Object = dict[str, Any]

_DRIVER = re.compile(r"""\s*device\.driver\s*==\s*(["'])([\w.-]+)\1\s*(&&[^|?]*)?""")
"""An expression that holds only for devices of one driver: nothing in it is an alternative."""


async def why_unserved(cluster: Cluster, plan: Plan) -> PendingReason | None:
    """Why no node can serve the claims of a job now; None if one may.

    ``Missing``: a claim, a template, a request or a DeviceClass does not exist. ``Capacity``: no ResourceSlice has a
    device of the driver, and an autoscaler may add a node that brings one. Other CEL expressions than the driver's name
    are not evaluated. What the operator may not read, and a cluster without ``resource.k8s.io/v1``, is no reason.
    """
    pod = plan.spec.pod_template
    problems = [await _of_claim(cluster, plan, claim) for claim in (pod and pod.resource_claims) or ()]
    return min(filter(None, problems), key=lambda problem: problem.kind != "Missing", default=None)


async def _of_claim(cluster: Cluster, plan: Plan, claim: ResourceClaim) -> PendingReason | None:
    resource = RESOURCE_CLAIMS if claim.resource_claim_name else RESOURCE_CLAIM_TEMPLATES
    name = claim.resource_claim_name or claim.resource_claim_template_name or ""
    try:
        found = await _get(cluster, resource, name, plan.namespace)
        if found is None:
            return pod_reasons.no_device_claim(resource.kind, name)
        if "allocation" in (found.get("status") or {}):
            return None
        requests = requests_of(found)
        if unknown := unknown_request(plan.spec, claim.name, requests):
            return pod_reasons.no_device_request(unknown, resource.kind, name, [one["name"] for one in requests])
        return await _of_requests(cluster, f"the {resource.kind} {name!r}", requests)
    except ClusterError as error:
        if error.status not in (403, 404):
            raise
        _log.info("it is not checked whether the cluster can serve the %s %s: %s", resource.kind, name, error)
        return None


async def _of_requests(cluster: Cluster, claim: str, requests: Sequence[Object]) -> PendingReason | None:
    """The scheduler wants every class to exist, also of alternatives, and one of them to have a device.

    Source: https://github.com/kubernetes/kubernetes/tree/master/pkg/scheduler/framework/plugins/dynamicresources
    """
    classes = {one["metadata"]["name"]: one for one in (await cluster.list(DEVICE_CLASSES)).items}
    for request in requests:
        for name in class_names(request):
            if name not in classes:
                return pod_reasons.no_device_class(name, request["name"], claim, sorted(classes))
    for request in requests:
        drivers = {driver_of(classes[name]) for name in class_names(request)}
        if drivers and not any([await _offers(cluster, driver) for driver in drivers]):
            named = [driver for driver in drivers if driver]
            return pod_reasons.no_device(named, request["name"], claim)
    return None


async def _get(cluster: Cluster, resource: Resource, name: str, namespace: str) -> Object | None:
    """The object; None if it does not exist. An API server without its kind answers 404 with another reason."""
    try:
        return await cluster.get(resource, name, namespace)
    except ClusterError as error:
        if error.reason != "NotFound":
            raise
        return None


async def _offers(cluster: Cluster, driver: str | None) -> bool:
    """Whether any ResourceSlice is of a driver; of any, for None."""
    page = await cluster.page(RESOURCE_SLICES, limit=1, fields=f"spec.driver={driver}" if driver else None)
    return bool(page.items)


def requests_of(claim: Object) -> list[Object]:
    """The requests for devices of a ResourceClaim or a ResourceClaimTemplate."""
    spec = claim["spec"].get("spec", claim["spec"])
    requests: list[Object] = (spec.get("devices") or {}).get("requests") or []
    return requests


def unknown_request(spec: EffectiveSpec, claim: str, requests: Sequence[Object]) -> str | None:
    """A request that ``resources.claims`` names and the claim does not have: its container would get no device."""
    used = (spec.resources and spec.resources.claims) or ()
    known = {request["name"] for request in requests}
    return next((one.request for one in used if one.name == claim and one.request and one.request not in known), None)


def class_names(request: Object) -> list[str]:
    """The DeviceClasses of a request: one, or one for each alternative."""
    parts = (request.get("exactly"), *(request.get("firstAvailable") or ()))
    return [part["deviceClassName"] for part in parts if part and part.get("deviceClassName")]


def driver_of(device_class: Object) -> str | None:
    """The driver of all devices of a DeviceClass; None if its selectors do not simply name it."""
    for selector in device_class["spec"].get("selectors") or ():
        if found := _DRIVER.fullmatch((selector.get("cel") or {}).get("expression", "")):
            return found[2]
    return None
