"""The Kubernetes API server, seen by the operator and the command line; the only importer of the Kubernetes client."""

from model_garden.cluster.client import Cluster, Listing, Object, Propagation, connect
from model_garden.cluster.configuration import in_pod
from model_garden.cluster.errors import Cause, ClusterError
from model_garden.cluster.exec import Execution, execute
from model_garden.cluster.logs import follow_log
from model_garden.cluster.resources import (
    CLAIMS,
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
from model_garden.cluster.watching import Change, Snapshot, list_and_watch

__all__ = [
    "CLAIMS",
    "DEVICE_CLASSES",
    "EVENTS",
    "JOBS",
    "LEASES",
    "NODES",
    "PODS",
    "QUEUE_VISIBILITY",
    "RESOURCE_CLAIMS",
    "RESOURCE_CLAIM_TEMPLATES",
    "RESOURCE_SLICES",
    "SECRETS",
    "SERVICES",
    "TRAINING_JOBS",
    "WORKLOADS",
    "Cause",
    "Change",
    "Cluster",
    "ClusterError",
    "Execution",
    "Listing",
    "Object",
    "Propagation",
    "Resource",
    "Snapshot",
    "connect",
    "execute",
    "follow_log",
    "in_pod",
    "list_and_watch",
]
