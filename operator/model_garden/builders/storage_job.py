"""Builds the short-lived Job whose pod reads and writes the claims of data sets and models. Pure functions.

Nobody owns it and the operator does not look at it: it has no label of a TrainingJob. Its pod ends when nothing used it
for a while, and Kubernetes deletes the Job soon after.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from model_garden import __version__
from model_garden.builders.job import pod_security, restricted_container
from model_garden.contract import names

Object = dict[str, Any]

CONTAINER = "files"
PYTHON = ("python", "-m")
IDLE_SECONDS = 120
"""Seconds without any use after which the pod ends."""
KEPT_SECONDS = 30
"""Seconds from the pod's end to the deletion of its Job."""
LONGEST_SECONDS = 24 * 3600
"""Seconds after which the pod ends even if something uses it."""


@dataclass(frozen=True)
class StoragePlace:
    """Where a namespace keeps data sets and models, and the image of the pod that reaches them."""

    data_claim: str = "model-garden-data"
    models_claim: str = "model-garden-models"
    image: str = f"model-garden/operator:{__version__}"
    pull_secrets: tuple[str, ...] = ()
    """Names of the Secrets, in the namespace of the claims, with which the image is pulled."""


def storage_job(place: StoragePlace, namespace: str) -> Object:
    """The Job. The same place has the same name, so that a pod that runs is used again."""
    labels = {"app.kubernetes.io/name": "model-garden", "app.kubernetes.io/component": "files"}
    spec: Object = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "activeDeadlineSeconds": LONGEST_SECONDS,
        "template": {"metadata": {"labels": labels}, "spec": _pod(place)},
    }
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:10]
    metadata = {"name": f"model-garden-files-{digest}", "namespace": namespace, "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pod(place: StoragePlace) -> Object:
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        **({"imagePullSecrets": [{"name": name} for name in place.pull_secrets]} if place.pull_secrets else {}),
        "affinity": _beside_training(),
        "containers": [
            {
                "name": CONTAINER,
                "image": place.image,
                "command": [*PYTHON, "model_garden.storage.idle", str(IDLE_SECONDS)],
                "workingDir": names.WORKSPACE,
                "env": [{"name": "HOME", "value": "/tmp"}],
                # A quota of a namespace may ask for both, and refuse much.
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": "1", "memory": "2Gi"},
                },
                "securityContext": restricted_container(),
                "volumeMounts": [
                    {"name": "workspace", "mountPath": names.WORKSPACE},
                    {"name": "data", "mountPath": f"{names.WORKSPACE}/data"},
                    {"name": "models", "mountPath": f"{names.WORKSPACE}/models"},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            }
        ],
        "volumes": [
            {"name": "workspace", "emptyDir": {}},
            {"name": "data", "persistentVolumeClaim": {"claimName": place.data_claim}},
            {"name": "models", "persistentVolumeClaim": {"claimName": place.models_claim}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _beside_training() -> Object:
    """The node of a training pod if there is one, since a ReadWriteOnce claim is on one node at a time."""
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchExpressions": [{"key": names.LABEL_JOB, "operator": "Exists"}]},
    }
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
