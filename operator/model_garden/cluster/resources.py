"""The kinds of objects this project reads or writes, and where the API server serves them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from model_garden.contract.names import API_VERSION, KIND, PLURAL


@dataclass(frozen=True)
class Resource:
    """One kind: its ``apiVersion``, its plural in URLs, and its kind in bodies."""

    api_version: str
    plural: str
    kind: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection (all namespaces without ``namespace``), an object, or its subresource."""
        root = "/api/" if "/" not in self.api_version else "/apis/"
        below = ["namespaces", namespace] if namespace else []
        below += [part for part in (self.plural, name, subresource) if part]
        return "/".join([root + self.api_version, *(quote(part, safe="") for part in below)])


TRAINING_JOBS = Resource(API_VERSION, PLURAL, KIND)
JOBS = Resource("batch/v1", "jobs", "Job")
PODS = Resource("v1", "pods", "Pod")
EVENTS = Resource("v1", "events", "Event")
SERVICES = Resource("v1", "services", "Service")
SECRETS = Resource("v1", "secrets", "Secret")
CLAIMS = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
NODES = Resource("v1", "nodes", "Node")
WORKLOADS = Resource("kueue.x-k8s.io/v1beta2", "workloads", "Workload")
QUEUE_VISIBILITY = Resource("visibility.kueue.x-k8s.io/v1beta2", "localqueues", "LocalQueue")
RESOURCE_CLAIMS = Resource("resource.k8s.io/v1", "resourceclaims", "ResourceClaim")
RESOURCE_CLAIM_TEMPLATES = Resource("resource.k8s.io/v1", "resourceclaimtemplates", "ResourceClaimTemplate")
RESOURCE_SLICES = Resource("resource.k8s.io/v1", "resourceslices", "ResourceSlice")
DEVICE_CLASSES = Resource("resource.k8s.io/v1", "deviceclasses", "DeviceClass")
LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")
USER_REVIEWS = Resource("authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview")
