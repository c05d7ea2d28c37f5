"""PURE: why a pod does not run or has ended, as a sentence that names the fix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from model_garden.contract.pod import GPU_PATTERN

Object = dict[str, Any]

PendingKind = Literal[
    "Capacity",  # the cluster is full: the job waits without limit
    "Missing",  # an object that the job names does not exist or may not be read; it may come, so the job waits a while
    "Image",  # the registry does not answer; it may later
    "Refused",  # the API server refuses the pod
    "Starting",  # the container is being created
]


@dataclass(frozen=True)
class PendingReason:
    """Why a pod does not run: the kind, a CamelCase reason for the condition, and a sentence.

    ``about``: the object that is missing, if one is named. The message cannot tell one problem from another: it may
    change with each look, as counts of nodes do.
    """

    kind: PendingKind
    reason: str
    message: str
    about: str = ""

    @property
    def problem(self) -> str:
        """What the job waits for, the same at each look."""
        return f"{self.reason} {self.about}".rstrip()


_INSUFFICIENT = re.compile(r"\d+ Insufficient ([\w./-]+)")
_NO_CLAIM = re.compile(r'persistentvolumeclaim "?([\w.-]+)"? not found')
_UNBOUND = re.compile(r"unbound immediate PersistentVolumeClaims")
_NO_DEVICE_CLAIM = re.compile(r'resource ?claim( ?template)?\S* "?([\w.-]+)"?:? not found', re.IGNORECASE)
_NO_DEVICE_CLASS = re.compile(r"request ([\w./-]+): device class ([\w.-]+) does not exist")
_NO_DEVICE = re.compile(r"cannot allocate all claims|resourceclaim (in use|not available)|process of being allocated")
_NO_OBJECT = re.compile(r'(secret|configmap) "?([\w.-]+)"? not found', re.IGNORECASE)

_NO_SUCH_IMAGE = re.compile(
    r"no such host|not found|manifest unknown|name unknown|no match for platform|unauthori[sz]ed|authorization|denied"
    r"|\b40[134]\b|invalid reference",
    re.IGNORECASE,
)
"""Answers of a registry that a retry does not change. Any other may come from the network."""

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_SECRETS = ("spec.hubTokenSecret", "spec.storage.credentialsSecret", "spec.tracking.secret")
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


def why_not_running(unscheduled: Object | None, waiting: Object | None, mount_problem: str | None) -> PendingReason:
    """Why a pod that exists does not run.

    Args:
        unscheduled: its ``PodScheduled=False`` condition.
        waiting: its container's waiting state.
        mount_problem: the message of an Event about a volume that cannot be mounted, or a claim of a device.
    """
    if unscheduled is not None:
        return _unscheduled(str(unscheduled.get("message") or ""))
    reason = str((waiting or {}).get("reason") or "")
    reported = str((waiting or {}).get("message") or "")
    if reason in _IMAGE:
        return PendingReason(
            "Missing" if reason in _NEVER or _NO_SUCH_IMAGE.search(reported) else "Image",
            "ImageNotPullable",
            f"the trainer image cannot be pulled ({reason}: {reported or 'no details'}); check spec.image and "
            "spec.podTemplate.imagePullSecrets, and whether the node can reach the registry",
        )
    problem = reported if reason in _CONFIG else mount_problem
    if problem and (missing := _NO_DEVICE_CLAIM.search(problem)):
        return no_device_claim("ResourceClaimTemplate" if missing[1] else "ResourceClaim", missing[2])
    if problem and (missing := _NO_OBJECT.search(problem)):
        kind, fields = "ConfigMap", "spec.podTemplate names"
        if missing[1].lower() == "secret":
            kind, fields = "Secret", f"one of {', '.join(_SECRETS)} and spec.podTemplate names"
        why = f"the {kind} {missing[2]!r} does not exist in this namespace; create it ({fields} it)"
        return PendingReason("Missing", "NotFound", why, f"{kind} {missing[2]}")
    if problem:
        return PendingReason(
            "Missing", reason if reason in _CONFIG else "MountFailed", f"the pod cannot start: {problem}"
        )
    return PendingReason("Starting", "Starting", "the pod has a node; its container is being created")


def _unscheduled(reported: str) -> PendingReason:
    if missing := _NO_CLAIM.search(reported):
        return PendingReason(
            "Missing",
            "ClaimNotFound",
            f"the PersistentVolumeClaim {missing[1]!r} does not exist in this namespace; create it, or name another "
            "in spec.storage",
            missing[1],
        )
    if _UNBOUND.search(reported):
        return PendingReason(
            "Missing",
            "ClaimNotBound",
            f"a PersistentVolumeClaim has no volume yet; check its storage class and its events ({reported})",
        )
    if missing := _NO_DEVICE_CLAIM.search(reported):
        return no_device_claim("ResourceClaimTemplate" if missing[1] else "ResourceClaim", missing[2])
    if missing := _NO_DEVICE_CLASS.search(reported):
        return no_device_class(missing[2], missing[1], "a claim")
    if _NO_DEVICE.search(reported):
        why = f"waiting for a device: no node has a free one for the claims of the pod ({reported})"
        return PendingReason("Capacity", "NoFreeDevice", why)
    lacking = [name.rstrip(".") for name in _INSUFFICIENT.findall(reported)]
    gpus = [name for name in lacking if re.match(GPU_PATTERN, name)]
    if gpus:
        return PendingReason(
            "Capacity", "NoFreeGPU", f"waiting for a GPU: no node has enough free {gpus[0]} ({reported})"
        )
    if lacking:
        return PendingReason(
            "Capacity", "NoFreeCapacity", f"waiting for a node with enough free {lacking[0]} ({reported})"
        )
    return PendingReason(
        "Capacity",
        "Unschedulable",
        f"no node matches the pod; check nodeSelector, affinity and tolerations in spec.podTemplate ({reported})",
    )


_CLAIMS = "spec.podTemplate.resourceClaims"
_MOST_NAMES = 10


def no_device_claim(kind: str, name: str) -> PendingReason:
    """A ResourceClaim or ResourceClaimTemplate that does not exist."""
    why = f"the {kind} {name!r} does not exist in this namespace; create it, or name another in {_CLAIMS}"
    return PendingReason("Missing", "NotFound", why, f"{kind} {name}")


def no_device_request(request: str, kind: str, name: str, known: Sequence[str]) -> PendingReason:
    """A request of ``resources.claims`` that its claim does not have."""
    why = (
        f"the {kind} {name!r} has no request {request!r}, which spec.resources.claims names; name one that it has "
        f"({_some(known)}), or add the request to the {kind}"
    )
    return PendingReason("Missing", "NotFound", why, f"{kind} {name} {request}")


def no_device_class(name: str, request: str, claim: str, known: Sequence[str] | None = None) -> PendingReason:
    """A DeviceClass that does not exist; ``known``: those that do."""
    others = "" if known is None else f" (it has {_some(known)})"
    why = (
        f"the DeviceClass {name!r} does not exist in the cluster{others}; request {request!r} of {claim} names it "
        f"({_CLAIMS}): install the driver that brings the class, or name another class there"
    )
    return PendingReason("Missing", "NotFound", why, f"DeviceClass {name}")


def no_device(drivers: Sequence[str], request: str, claim: str) -> PendingReason:
    """A cluster without any device of the drivers; of any driver, if none is named."""
    whose = f"of the driver {' or '.join(map(repr, sorted(drivers)))}" if drivers else "of any driver"
    why = (
        f"waiting for a device: no ResourceSlice of the cluster offers a device {whose}; request {request!r} of "
        f"{claim} asks for one ({_CLAIMS}): install the driver on the nodes with the devices, or add such a node"
    )
    return PendingReason("Capacity", "NoFreeDevice", why)


def _some(names: Sequence[str]) -> str:
    return (", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")) or "none"


def why_no_pod(failed_create: str | None) -> PendingReason | None:
    """Why a Job has no pod, from its ``FailedCreate`` Event; None if there is none."""
    if failed_create is None:
        return None
    if "exceeded quota" in failed_create:
        return PendingReason("Capacity", "QuotaExceeded", f"waiting for the namespace's quota: {failed_create}")
    if "violates PodSecurity" in failed_create:
        why = "the namespace's Pod Security level forbids spec.podTemplate"
        return PendingReason("Refused", "PodRefused", f"{why}; change one of them ({failed_create})")
    return PendingReason("Refused", "PodRefused", f"the pod cannot be created: {failed_create}")


def stopping(pod: str, node: str | None, reported: str | None, delete_by: str) -> str:
    """A running pod that is to be deleted, and has time to save a checkpoint."""
    return (
        f"pod {pod} on node {node or 'unknown'} is being deleted{_in_brackets(reported)} and has until {delete_by} to "
        f"save a checkpoint; if the node does not answer, {_free_the_job(pod)}"
    )


def not_ending(pod: str, exit_code: int | None, containers: Sequence[str]) -> str:
    """A pod whose trainer has ended, and whose injected sidecars have not."""
    return (
        f"the trainer ended with exit code {exit_code}, but pod {pod} cannot end, and the Job neither, before these "
        f"containers of it: {', '.join(containers)}. If they were injected, keep them out (Istio: the annotation "
        'sidecar.istio.io/inject: "false" in spec.podTemplate.annotations) or inject them as native sidecars, and run '
        "the job again. This job ends as soon as they do"
    )


def left_behind(pod: str, node: str | None, delete_by: str | None) -> str:
    """A pod of a deleted Job, beside which no new one may write."""
    until = f"it has until {delete_by} to save a checkpoint" if delete_by else f"to end it: kubectl delete pod {pod}"
    return f"pod {pod} on node {node or 'unknown'} has ended ({until})"


def not_stopped(pod: str, node: str | None, reported: str | None, delete_by: str) -> str:
    """A pod that has passed its deadline: only its node can report that it has ended."""
    return (
        f"node {node or 'unknown'} does not answer: its pod {pod} should have stopped by {delete_by}"
        f"{_in_brackets(reported)}. Kubernetes starts no new pod until {pod} is removed: {_free_the_job(pod)}"
    )


def node_lost(pod: str, node: str | None, since: str) -> str:
    """A running pod whose node has stopped to answer, and that Kubernetes does not delete yet."""
    return (
        f"node {node or 'unknown'} does not answer since {since}; its pod {pod} may still train, but its progress is "
        "not known. If the node answers again, nothing is lost. If not, Kubernetes marks the pod for deletion after "
        "5 minutes (or the tolerationSeconds of spec.podTemplate.tolerations), and then waits for the node: "
        f"{_free_the_job(pod)}"
    )


def _in_brackets(reported: str | None) -> str:
    return f" ({reported})" if reported else ""


def _free_the_job(pod: str) -> str:
    return (
        "repair the node, or delete the Node object, or, if you are sure that the pod no longer runs, force-delete it "
        f"(kubectl delete pod {pod} --force). Then training resumes from the last checkpoint"
    )


def preempted(reported: str | None) -> str:
    """A pod that was preempted."""
    return f"a higher-priority pod preempted this pod{_in_brackets(reported)}"


def evicted(reported: str | None, node: str | None) -> str:
    """A pod that its node evicted, or whose node was lost."""
    return f"the pod was evicted from node {node or 'unknown'}{_in_brackets(reported)}"


def out_of_memory(limit: str | None) -> str:
    """A container that the kernel killed."""
    bound = f"its memory limit of {limit}" if limit else "the node's memory"
    return (
        f"the kernel killed the container, which used more than {bound}; raise spec.resources.limits.memory, or lower "
        "hyperparameters.batchSize, maxSeqLength or imageOptions.maxPixels"
    )


def died(exit_code: int | None, reason: str | None, reported: str | None) -> str:
    """A container that ended without an outcome."""
    if reason in ("StartError", "ContainerCannotRun"):
        return f"the container could not start: {reported or reason}"
    if exit_code == 137:
        return "the container was killed (SIGKILL) without a termination message: node shutdown or out of memory"
    if exit_code is not None and exit_code > 128:
        return f"signal {exit_code - 128} ended the container, which left no termination message"
    found = f": {reported}" if reported else " and left no termination message"
    return f"the container ended with exit code {exit_code}{found}; see its log"
