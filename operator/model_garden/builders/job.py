"""Builds the Job of a TrainingJob. Pure functions: no clock, no network."""

from __future__ import annotations

from model_garden.builders.plan import Object, Plan
from model_garden.builders.resources import preflight_resources, training_resources
from model_garden.builders.settings import Settings
from model_garden.contract import names
from model_garden.contract.addresses import HUB_DATASET
from model_garden.contract.reasons import NO_RETRY, WORKER_LOST
from model_garden.contract.spec import ACCEPTED, EffectiveSpec, is_on_hub
from model_garden.contract.trainer_config import TrainerConfig

GRACE_SECONDS = 120
"""Seconds from SIGTERM to SIGKILL, enough to save the adapters and the optimizer of a large model."""
RENDEZVOUS_PORT = 29500
"""The default port of torchrun."""

_USER = 1000
_HOME = {"name": "HOME", "value": f"{names.WORKSPACE}/tmp"}
"""The root is read-only. The trainer itself puts the caches of libraries into the cache claim."""
_PASSED_ON = ("serviceAccountName", "imagePullSecrets", "priorityClassName")
_PASSED_ON_TO_GPUS = ("nodeSelector", "tolerations", "affinity", "runtimeClassName", "schedulerName", "resourceClaims")
"""The fields that select a node with a GPU. A preflight has none of them, since it needs no such node."""


def job(plan: Plan, settings: Settings) -> Object:
    """The Job of the plan's step: one pod per node, retried after exit codes for which a retry can help."""
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
        "suspend": bool(spec.suspend) or plan.queued_by_kueue,  # Kueue resumes the Job when it admits it
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
        metadata["annotations"] = {names.SUSPENDED_BY_SPEC: "true"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job_spec}


def service(plan: Plan) -> Object | None:
    """The headless Service with which the pods of several nodes find the first one; None for a single node."""
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
            "values": [WORKER_LOST],
        },
    }
    return {
        "rules": [
            {
                "action": "FailJob",
                "onExitCodes": {
                    "containerName": names.TRAINER_CONTAINER,
                    "operator": "In",
                    "values": NO_RETRY,
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
    passed_on = _PASSED_ON if plan.step == "preflight" else _PASSED_ON + _PASSED_ON_TO_GPUS
    pod_spec: Object = {key: given[key] for key in passed_on if key in given}
    pod_spec |= {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "containers": [_container(plan, settings, given)],
        "volumes": _volumes(plan.spec),
    }
    if plan.nodes > 1:
        pod_spec["subdomain"] = names.service_name(plan.job_name)
    metadata: Object = {"labels": (given.get("labels") or {}) | labels}
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": pod_spec}


def pod_security() -> Object:
    """The security context of every pod: the user and group whose files are on the claims."""
    return {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "fsGroup": _USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def restricted_container() -> Object:
    """The security context of every container, with which the Pod Security level ``restricted`` accepts it."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _container(plan: Plan, settings: Settings, given: Object) -> Object:
    container: Object = {
        "name": names.TRAINER_CONTAINER,
        "image": plan.spec.image,
        "command": [*settings.trainer_command, *(["preflight"] if plan.step == "preflight" else [])],
        "workingDir": names.WORKSPACE,
        "env": _environment(plan, settings, given.get("env") or []),
        "resources": (preflight_resources if plan.step == "preflight" else training_resources)(plan.spec),
        "terminationMessagePath": f"{names.WORKSPACE}/{names.TERMINATION_LOG}",
        "securityContext": restricted_container(),
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
    storage, tracking = plan.spec.storage, plan.spec.tracking
    secrets = [storage and storage.credentials_secret, tracking and tracking.secret]
    sources = [{"secretRef": {"name": secret}} for secret in secrets if secret]
    if sources := sources + (given.get("envFrom") or []):  # of two with the same name, Kubernetes takes the last
        container["envFrom"] = sources
    return container


def _environment(plan: Plan, settings: Settings, given: list[Object]) -> list[Object]:
    """The variables: the home and the Hub's address, which a job may replace, those of the job, the token, and the
    config."""
    chosen = {variable.get("name") for variable in given}
    result: list[Object] = [] if "HOME" in chosen else [_HOME]
    if settings.hub_endpoint and "HF_ENDPOINT" not in chosen:
        result.append({"name": "HF_ENDPOINT", "value": settings.hub_endpoint})
    result += given
    result += [variable for variable in _rendezvous(plan) if variable["name"] not in chosen]
    if _is_in_the_cache(plan) and "HF_HUB_OFFLINE" not in chosen:
        result += [{"name": name, "value": "1"} for name in ("HF_HUB_OFFLINE", names.PREFLIGHT_DONE_ENV)]
    if (secret := plan.spec.hub_token_secret) and "HF_TOKEN" not in chosen:
        reference = {"name": secret.name, "key": secret.key}
        result.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    fetched = plan.fetched if plan.step == "train" else None
    fields = {"name": plan.name, "spec": plan.spec, "fetched": fetched, "uid": plan.uid or None}
    config = TrainerConfig.model_validate(fields, context=ACCEPTED)  # the plan is checked already
    text = config.model_dump_json(by_alias=True, exclude_none=True)
    result.append({"name": names.CONFIG_ENV, "value": _literal(text)})
    return result


def _literal(text: str) -> str:
    """``text`` as the value of a variable, in which Kubernetes replaces ``$(NAME)`` by the variable NAME.

    Else a spec with ``$(HF_TOKEN)`` in a path brings the token into messages and the status.
    """
    return text.replace("$", "$$")


def _rendezvous(plan: Plan) -> list[Object]:
    """The variables of torchrun's rendezvous: the address of the first pod, and the rank of each pod."""
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
    """Whether the preflight downloaded all that training needs from the Hub, so that training can run offline."""
    spec = plan.spec
    from_hub = any(path.startswith(HUB_DATASET) for path, _ in spec.all_datasets)
    return bool(
        plan.step == "train"
        and plan.needs_preflight
        and is_on_hub(spec.base_model)
        and spec.storage
        and spec.storage.cache_claim
        and not from_hub
        and not spec.push_to_hub
    )


def _volumes(spec: EffectiveSpec) -> list[Object]:
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
