"""PURE: what a TrainingJob asks for, as the Job that should exist. No clock, no network; equal input, equal output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model_garden.contract import defaults, names
from model_garden.contract.pod import GPU_RESOURCE
from model_garden.contract.progress import NO_RETRY, ExitCode
from model_garden.contract.resource import InvalidResource, parse_spec
from model_garden.contract.spec import HUB_DATASET, Storage, TrainingJobSpec, is_path, outside_workspace
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.controller.settings import Settings

Object = dict[str, Any]
Step = Literal["prepare", "train"]
STEPS: tuple[Step, ...] = ("prepare", "train")

GRACE_SECONDS = 120
"""From SIGTERM to SIGKILL: enough for the checkpoint of a large model's adapters and optimizer."""
SUSPENDED_BY_SPEC = f"{names.GROUP}/suspended-by-spec"
"""On a Job that ``spec.suspend`` suspended, so that only that suspension is ever lifted here."""

RENDEZVOUS_PORT = 29500
"""torchrun's."""

_TRAINER_USER = 1000
_READ_ONLY_ROOT_NEEDS = {
    "HOME": f"{names.WORKSPACE}/tmp",
    "HF_HOME": f"{names.WORKSPACE}/cache/huggingface",
    "XDG_CACHE_HOME": f"{names.WORKSPACE}/cache",
    "TORCHINDUCTOR_CACHE_DIR": f"{names.WORKSPACE}/cache/torchinductor",
    "TRITON_CACHE_DIR": f"{names.WORKSPACE}/cache/triton",
    "UNSLOTH_COMPILE_LOCATION": f"{names.WORKSPACE}/tmp/unsloth",
}
_REQUESTS_ON_GPU = {"cpu": "2", "memory": "8Gi"}
_REQUESTS_ON_CPU = {"cpu": "500m", "memory": "1Gi"}
_PASSED_ON = ("serviceAccountName", "imagePullSecrets", "priorityClassName")
_PASSED_ON_TO_GPUS = ("nodeSelector", "tolerations", "affinity", "runtimeClassName", "schedulerName")
"""What leads to a node with a GPU. A prepare gets none of it: it would wait for such a node, or start one, in vain."""


@dataclass(frozen=True)
class Plan:
    """A valid TrainingJob, ready to be run: ``spec`` has every default applied, image and claims included.

    ``step`` is the one that is due: each step is a Job of its own, and there is one at a time.
    """

    name: str
    namespace: str
    uid: str
    spec: TrainingJobSpec
    labels: dict[str, str]
    annotations: dict[str, str]
    step: Step = "train"

    @property
    def job_name(self) -> str:
        """The name of the step's Job."""
        return names.job_name(self.name, self.step)

    @property
    def needs_prepare(self) -> bool:
        """Whether a prepare comes first: it saves a GPU's time, so only where one is asked for."""
        return self.spec.gpus > 0 and self.spec.prepare != "off"

    @property
    def nodes(self) -> int:
        """How many pods work together."""
        return (self.spec.num_nodes or 1) if self.step == "train" else 1

    @property
    def stop_and_save(self) -> bool:
        """Whether a person asked to end training early and save; there is nothing to save before it."""
        return self.step == "train" and self.annotations.get(names.ANNOTATION_STOP) == "save"

    @property
    def cancelled(self) -> bool:
        """Whether a person gave the job up."""
        return self.annotations.get(names.ANNOTATION_CANCEL) == "true"

    @property
    def queued_by_kueue(self) -> bool:
        """Whether Kueue decides when the Job starts. It hands out GPUs, and a prepare has none."""
        return self.step == "train" and names.KUEUE_QUEUE in self.labels

    @property
    def held_back(self) -> bool:
        """Whether there is to be no Job yet: Kueue lifts any suspension, so a suspended one must not reach it."""
        return self.queued_by_kueue and bool(self.spec.suspend)


def plan(resource: Object, settings: Settings) -> Plan:
    """Check a TrainingJob and apply every default.

    Raises:
        InvalidResource: with one line for each field that is wrong.
    """
    metadata = resource["metadata"]
    given = parse_spec(resource.get("spec"))
    spec = defaults.effective(_with_settings(given, settings), metadata["name"])
    return Plan(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        spec=spec,
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
    )


def check(plan: Plan) -> None:
    """Asked before a Job is made, never of one that runs: the operator's settings may have changed since.

    Raises:
        InvalidResource: with one line for each thing that is valid, but cannot run here.
    """
    if problems := outside_workspace(plan.spec) + _cannot_run(plan.spec):
        raise InvalidResource(problems)


def misunderstood(annotations: Mapping[str, str]) -> list[str]:
    """What people asked for by an annotation of ours in a way that means nothing, one sentence each."""
    accepted = {names.ANNOTATION_STOP: ("save",), names.ANNOTATION_CANCEL: ("true", "false")}
    return [
        f"the annotation {name}={annotations[name]} has no effect; the value that has one is {values[0]!r}"
        for name, values in accepted.items()
        if name in annotations and annotations[name] not in values
    ]


def job(plan: Plan, settings: Settings) -> Object:
    """The Job of the step that is due: a pod for each node, restarted while its exit code says that this can help."""
    spec = plan.spec
    labels = {names.LABEL_JOB: names.label_value(plan.name), names.LABEL_STEP: plan.step}
    kueue_labels = (names.KUEUE_QUEUE, names.KUEUE_PRIORITY) if plan.queued_by_kueue else ()
    kueue = {key: plan.labels[key] for key in kueue_labels if key in plan.labels}
    job_spec: Object = {
        "completions": plan.nodes,
        "parallelism": plan.nodes,
        "backoffLimit": spec.backoff_limit,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": _pod_failure_policy(plan.nodes),
        "suspend": bool(spec.suspend),
        "template": _pod_template(plan, settings, labels),
    }
    if plan.nodes > 1:
        job_spec["completionMode"] = "Indexed"
    if spec.active_deadline_seconds is not None and plan.step == "train":
        job_spec["activeDeadlineSeconds"] = spec.active_deadline_seconds
    metadata = {
        "name": plan.job_name,
        "namespace": plan.namespace,
        "labels": labels | kueue,
        "ownerReferences": [_owner(plan)],
    }
    if spec.suspend and not plan.queued_by_kueue:
        metadata["annotations"] = {SUSPENDED_BY_SPEC: "true"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job_spec}


def service(plan: Plan) -> Object | None:
    """The headless Service by which the pods of several nodes find the first one; None for a single node."""
    if plan.nodes == 1:
        return None
    labels = {names.LABEL_JOB: names.label_value(plan.name), names.LABEL_STEP: plan.step}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.service_name(plan.job_name),
            "namespace": plan.namespace,
            "labels": labels,
            "ownerReferences": [_owner(plan)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # they meet before any of them is ready
            "selector": labels,
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def _with_settings(spec: TrainingJobSpec, settings: Settings) -> TrainingJobSpec:
    given = spec.storage or Storage()
    storage = Storage(
        data_claim=given.data_claim or settings.data_claim or None,
        models_claim=given.models_claim or settings.models_claim or None,
        cache_claim=given.cache_claim or settings.cache_claim or None,
    )
    return spec.model_copy(update={"image": spec.image or settings.trainer_image, "storage": storage})


def _cannot_run(spec: TrainingJobSpec) -> list[str]:
    """What is a valid spec but cannot run here."""
    storage = spec.storage
    problems = []
    keeps_models = bool(storage and storage.models_claim)
    if not keeps_models and (spec.num_nodes or 1) > 1:
        problems.append(
            "spec.storage.modelsClaim: required with numNodes, since all pods resume from the checkpoints there; name "
            "a PersistentVolumeClaim that all nodes can mount (ReadWriteMany)"
        )
    elif not keeps_models and not spec.push_to_hub:
        problems.append(
            "spec.storage.modelsClaim: required, since the operator has no default claim and the trained model would "
            "be lost with its pod; name a PersistentVolumeClaim"
        )
    if not (storage and storage.data_claim) and _in_data(spec.dataset_path):
        problems.append(
            f"spec.storage.dataClaim: required to read {spec.dataset_path!r}, since the operator has no default claim; "
            f"name a PersistentVolumeClaim that holds the data, or use {HUB_DATASET}ORG/NAME"
        )
    env = (spec.pod_template and spec.pod_template.env) or []
    if any(variable.name == names.CONFIG_ENV for variable in env):
        problems.append(f"spec.podTemplate.env: {names.CONFIG_ENV} is the operator's own; leave it out")
    return problems


def _in_data(path: str) -> bool:
    return path.removeprefix("./").removeprefix(f"{names.WORKSPACE}/").split("/")[0] == "data"


def _owner(plan: Plan) -> Object:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": plan.name,
        "uid": plan.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _pod_failure_policy(nodes: int) -> Object:
    """Errors that a retry cannot help fail the Job at once; preempted and evicted pods are not counted as failures, and
    of several pods only the one that was the cause is."""
    followed = {
        "action": "Ignore",
        "onExitCodes": {
            "containerName": names.TRAINER_CONTAINER,
            "operator": "In",
            "values": [int(ExitCode.PEER_LOST)],
        },
    }
    return {
        "rules": [
            {
                "action": "FailJob",
                "onExitCodes": {
                    "containerName": names.TRAINER_CONTAINER,
                    "operator": "In",
                    "values": [int(code) for code in NO_RETRY],
                },
            },
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            *([followed] if nodes > 1 else []),
        ]
    }


def _pod_template(plan: Plan, settings: Settings, labels: dict[str, str]) -> Object:
    given = plan.spec.pod_template.to_dict() if plan.spec.pod_template else {}
    annotations = dict(given.get("annotations") or {})
    if plan.stop_and_save:
        annotations[names.ANNOTATION_STOP] = "save"
    passed_on = _PASSED_ON if plan.step == "prepare" else _PASSED_ON + _PASSED_ON_TO_GPUS
    pod_spec: Object = {key: given[key] for key in passed_on if key in given}
    pod_spec |= {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _TRAINER_USER,
            "runAsGroup": _TRAINER_USER,
            "fsGroup": _TRAINER_USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(plan, settings, given)],
        "volumes": _volumes(plan.spec),
    }
    if plan.nodes > 1:
        pod_spec["subdomain"] = names.service_name(plan.job_name)
    metadata: Object = {"labels": (given.get("labels") or {}) | labels}
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": pod_spec}


def _container(plan: Plan, settings: Settings, given: Object) -> Object:
    container: Object = {
        "name": names.TRAINER_CONTAINER,
        "image": plan.spec.image,
        "command": [*settings.trainer_command, *(["prepare"] if plan.step == "prepare" else [])],
        "workingDir": names.WORKSPACE,
        "env": _environment(plan, given.get("env") or []),
        "resources": {"requests": dict(_REQUESTS_ON_CPU)} if plan.step == "prepare" else _resources(plan.spec),
        "terminationMessagePath": f"{names.WORKSPACE}/{names.TERMINATION_LOG}",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "workspace", "mountPath": names.WORKSPACE},
            {"name": "data", "mountPath": f"{names.WORKSPACE}/data", "readOnly": True},
            {"name": "models", "mountPath": f"{names.WORKSPACE}/models"},
            {"name": "cache", "mountPath": f"{names.WORKSPACE}/cache"},
            {"name": "podinfo", "mountPath": f"{names.WORKSPACE}/podinfo", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    if "envFrom" in given:
        container["envFrom"] = given["envFrom"]
    return container


def _environment(plan: Plan, given: list[Object]) -> list[Object]:
    """The caches' places (a job may choose others), what the job sets, the token, and the config."""
    chosen = {variable.get("name") for variable in given}
    result: list[Object] = [
        {"name": name, "value": value} for name, value in _READ_ONLY_ROOT_NEEDS.items() if name not in chosen
    ]
    result += given
    result += [variable for variable in _rendezvous(plan) if variable["name"] not in chosen]
    if _is_in_the_cache(plan) and "HF_HUB_OFFLINE" not in chosen:
        result += [{"name": name, "value": "1"} for name in ("HF_HUB_OFFLINE", names.PREPARED_ENV)]
    if (secret := plan.spec.hub_token_secret) and "HF_TOKEN" not in chosen:
        reference = {"name": secret.name, "key": secret.key}
        result.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    config = TrainerConfig(name=plan.name, spec=plan.spec)
    result.append({"name": names.CONFIG_ENV, "value": config.model_dump_json(by_alias=True, exclude_none=True)})
    return result


def _rendezvous(plan: Plan) -> list[Object]:
    """Where the pods of several nodes meet, and which of them each is: what torchrun calls it."""
    if plan.nodes == 1:
        return []
    index = {"fieldPath": f"metadata.annotations['{names.COMPLETION_INDEX}']"}
    return [
        {"name": "MASTER_ADDR", "value": f"{plan.job_name}-0.{names.service_name(plan.job_name)}"},
        {"name": "MASTER_PORT", "value": str(RENDEZVOUS_PORT)},
        {"name": "NNODES", "value": str(plan.nodes)},
        {"name": "NODE_RANK", "valueFrom": {"fieldRef": index}},
    ]


def _is_in_the_cache(plan: Plan) -> bool:
    """Whether all of the Hub that training needs came with the prepare: then a Hub in trouble cannot hold up a GPU."""
    spec = plan.spec
    from_hub = spec.dataset_path.startswith(HUB_DATASET) or (spec.validation_dataset_path or "").startswith(HUB_DATASET)
    return bool(
        plan.step == "train"
        and plan.needs_prepare
        and not is_path(spec.base_model)
        and spec.storage
        and spec.storage.cache_claim
        and not from_hub
        and not spec.push_to_hub
    )


def _resources(spec: TrainingJobSpec) -> Object:
    """What the container asks for. Kueue counts requests, so there always are some; no GPU is left out, not zero."""
    given = spec.resources.to_dict() if spec.resources else {}
    limits, requests = dict(given.get("limits") or {}), dict(given.get("requests") or {})
    for amounts in (limits, requests):
        if not int(amounts.get(GPU_RESOURCE, 1)):
            del amounts[GPU_RESOURCE]
    for name, amount in (_REQUESTS_ON_GPU if spec.gpus else _REQUESTS_ON_CPU).items():
        if name not in limits:  # with a limit alone, Kubernetes requests as much
            requests.setdefault(name, amount)
    return {"requests": requests, "limits": limits}


def _volumes(spec: TrainingJobSpec) -> list[Object]:
    storage = spec.storage.to_dict() if spec.storage else {}
    annotations = {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}
    return [
        {"name": "workspace", "emptyDir": {}},
        _claim("data", storage.get("dataClaim")),
        _claim("models", storage.get("modelsClaim")),
        _claim("cache", storage.get("cacheClaim")),
        {"name": "podinfo", "downwardAPI": {"items": [annotations]}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]


def _claim(volume: str, claim: str | None) -> Object:
    if claim is None:
        return {"name": volume, "emptyDir": {}}
    return {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
