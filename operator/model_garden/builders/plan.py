"""Checks a TrainingJob and applies every default, for the Job to build. Pure functions: no clock, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from model_garden.builders.resources import resource_problems
from model_garden.builders.settings import Settings
from model_garden.contract import defaults, names
from model_garden.contract.addresses import HUB_DATASET
from model_garden.contract.crd import MUTABLE
from model_garden.contract.options import Storage
from model_garden.contract.pod import LocalObjectReference, PodTemplate
from model_garden.contract.resource import InvalidResource, parse_spec
from model_garden.contract.spec import ACCEPTED, EffectiveSpec, TrainingJobSpec, outside_workspace

Object = dict[str, Any]

Step = Literal["preflight", "train"]

STEPS: tuple[Step, ...] = ("preflight", "train")


@dataclass(frozen=True)
class Plan:
    """A valid TrainingJob with every default applied to ``spec``, image and claims included.

    ``step`` is the current step. Each step is a separate Job, one at a time.
    """

    name: str
    namespace: str
    uid: str
    spec: EffectiveSpec
    labels: dict[str, str]
    annotations: dict[str, str]
    step: Step = "train"
    fetched: dict[str, str] | None = None
    """``status.fetched``: the digests of what the preflight fetched."""

    @property
    def job_name(self) -> str:
        """The name of the step's Job."""
        return names.job_name(self.name, self.step)

    @property
    def needs_preflight(self) -> bool:
        """Whether a preflight runs before training: only for a job that requests a GPU, whose time it saves."""
        return self.spec.gpus > 0 and self.spec.preflight == "Enabled"

    @property
    def nodes(self) -> int:
        """The number of pods of the step."""
        return self.spec.num_nodes if self.step == "train" else 1

    @property
    def stop_and_save(self) -> bool:
        """Whether a user requested stop-and-save, which applies to training alone."""
        return self.step == "train" and self.annotations.get(names.ANNOTATION_STOP) == "save"

    @property
    def cancelled(self) -> bool:
        """Whether a user canceled the job."""
        return self.annotations.get(names.ANNOTATION_CANCEL) == "true"

    @property
    def queued_by_kueue(self) -> bool:
        """Whether Kueue decides when the Job starts. A preflight, which has no GPU, is never queued."""
        return self.step == "train" and names.KUEUE_QUEUE in self.labels

    @property
    def held_back(self) -> bool:
        """Whether the Job must not exist yet: Kueue resumes every suspended Job that it admits."""
        return self.queued_by_kueue and bool(self.spec.suspend)


def plan(resource: Object, settings: Settings) -> Plan:
    """Check a TrainingJob and apply every default.

    Raises:
        InvalidResource: with one line for each field that is wrong.
    """
    metadata = resource["metadata"]
    given = parse_spec(resource.get("spec"))
    named = {"name": metadata["name"], "namespace": metadata["namespace"]}
    return _plan(resource, defaults.effective_spec(_with_settings(given, settings), **named))


def accepted_plan(resource: Object) -> Plan | None:
    """The plan of a TrainingJob whose spec an earlier operator accepted, from ``status.effectiveSpec``.

    None if that is not there, or has a field that this operator does not know.
    """
    accepted: Object = (resource.get("status") or {}).get("effectiveSpec") or {}
    changeable = {key: resource["spec"][key] for key in MUTABLE if key in resource["spec"]}
    kept = {key: value for key, value in accepted.items() if key not in MUTABLE}
    try:
        spec = EffectiveSpec.model_validate({"suspend": False} | kept | changeable, context=ACCEPTED)
    except ValidationError:
        return None
    return _plan(resource, spec)


def _plan(resource: Object, spec: EffectiveSpec) -> Plan:
    metadata = resource["metadata"]
    return Plan(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        spec=spec,
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        fetched=(resource.get("status") or {}).get("fetched"),
    )


def check(plan: Plan) -> None:
    """Refuse a job that is valid but cannot run in this cluster.

    Called before a Job is created, and not for a running one, since the operator's settings may have changed.

    Raises:
        InvalidResource: with one line for each problem.
    """
    if problems := outside_workspace(plan.spec) + resource_problems(plan.spec) + _cannot_run(plan.spec):
        raise InvalidResource(problems)


def invalid_annotations(annotations: Mapping[str, str]) -> list[str]:
    """One sentence for each annotation of this API whose value has no meaning."""
    accepted = {names.ANNOTATION_STOP: ("save",), names.ANNOTATION_CANCEL: ("true", "false")}
    return [
        f"the annotation {name}={annotations[name]} has no effect; set it to {values[0]!r}"
        for name, values in accepted.items()
        if name in annotations and annotations[name] not in values
    ]


def _with_settings(spec: TrainingJobSpec, settings: Settings) -> TrainingJobSpec:
    given = spec.storage or Storage()
    storage = Storage(
        data_claim=given.data_claim or settings.data_claim or None,
        models_claim=given.models_claim or settings.models_claim or None,
        cache_claim=given.cache_claim or settings.cache_claim or None,
        credentials_secret=given.credentials_secret,
        endpoint_url=given.endpoint_url,
    )
    template = spec.pod_template
    if settings.trainer_image_pull_secrets and not (template and template.image_pull_secrets):
        secrets = [LocalObjectReference(name=name) for name in settings.trainer_image_pull_secrets]
        template = (template or PodTemplate()).model_copy(update={"image_pull_secrets": secrets})
    changes = {"image": spec.image or settings.trainer_image, "storage": storage, "pod_template": template}
    return spec.model_copy(update=changes)


def _cannot_run(spec: EffectiveSpec) -> list[str]:
    """One line for each problem of a valid spec that cannot run in this cluster."""
    storage = spec.storage
    problems = []
    keeps_models = bool(storage and storage.models_claim)
    if not keeps_models and spec.num_nodes > 1:
        problems.append(
            "spec.storage.modelsClaim: required with numNodes, since all pods resume from the checkpoints there; name "
            "a PersistentVolumeClaim that all nodes can mount (ReadWriteMany)"
        )
    elif not keeps_models and not spec.push_to_hub and not spec.push_to:
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
        problems.append(f"spec.podTemplate.env: {names.CONFIG_ENV} is set by the operator; remove it")
    return problems


def _in_data(path: str) -> bool:
    return path.removeprefix("./").removeprefix(f"{names.WORKSPACE}/").split("/")[0] == "data"
