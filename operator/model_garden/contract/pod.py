"""The parts of a Kubernetes pod that a TrainingJob passes on, in Kubernetes' own shape (core/v1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from model_garden.contract.declaration import declare
from model_garden.contract.model import ContractModel

ObjectName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
Quantity = Annotated[int | str, Field(union_mode="left_to_right")]
ShortText = Annotated[str, StringConstraints(max_length=1024)]

GPU_RESOURCE = "nvidia.com/gpu"
"""The GPUs of a job that names no others."""
GPU_PATTERN = "^(nvidia[.]com/(gpu|gpu[.]shared|mig-.+)|amd[.]com/gpu)$"
"""Resources that are GPUs: NVIDIA's, its time slices (renamed by the device plugin) and MIG slices; AMD's."""


def gpu_amounts(amounts: Mapping[str, Any] | None) -> dict[str, int]:
    """The GPUs among amounts of resources."""
    return {name: int(amount) for name, amount in (amounts or {}).items() if re.match(GPU_PATTERN, name)}


def gpus_of(resources: Mapping[str, Any] | None) -> int:
    """The GPUs per pod of a spec's ``resources``: the limit, else the request, else one for each claim, else 1."""
    given = resources or {}
    for amounts in (given.get("limits"), given.get("requests")):
        if found := gpu_amounts(amounts):
            return sum(found.values())
    return len(given.get("claims") or ()) or 1


def gpu_resource(resources: Mapping[str, Any] | None) -> str | None:
    """The name of the GPUs of a spec's ``resources``; None for those of claims."""
    given = resources or {}
    found = [*gpu_amounts(given.get("limits")), *gpu_amounts(given.get("requests"))]
    return found[0] if found else None if given.get("claims") else GPU_RESOURCE


class LocalObjectReference(ContractModel):
    """An object of the same namespace."""

    name: ObjectName


class KeySelector(ContractModel):
    """One key of a Secret or ConfigMap."""

    name: ObjectName
    key: ShortText
    optional: bool | None = None


class FieldSelector(ContractModel):
    """A field of the pod, such as ``metadata.name``."""

    field_path: ShortText
    api_version: ShortText | None = None


class ResourceFieldSelector(ContractModel):
    """A container's request or limit, such as ``limits.memory``."""

    resource: ShortText
    container_name: ShortText | None = None
    divisor: Quantity | None = None


class EnvVarSource(ContractModel):
    """Where an environment variable's value comes from."""

    field_ref: FieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class EnvVar(ContractModel):
    """One environment variable."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    value: Annotated[str, StringConstraints(max_length=32_768)] | None = None
    value_from: EnvVarSource | None = None


class EnvSource(ContractModel):
    """All keys of a Secret or ConfigMap as environment variables."""

    secret_ref: LocalObjectReference | None = None
    config_map_ref: LocalObjectReference | None = None
    prefix: ShortText | None = None


class Toleration(ContractModel):
    """A taint that the pods tolerate."""

    key: ShortText | None = None
    operator: Literal["Exists", "Equal", "Lt", "Gt"] | None = None
    value: ShortText | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class ResourceClaim(ContractModel):
    """Devices of Dynamic Resource Allocation: an existing ResourceClaim, or a template that makes one for each pod."""

    name: ObjectName
    resource_claim_name: ObjectName | None = None
    resource_claim_template_name: ObjectName | None = None


class ContainerClaim(ContractModel):
    """A claim of ``podTemplate.resourceClaims``, or one request of it."""

    name: ObjectName
    request: ObjectName | None = None


class PodTemplate(ContractModel):
    """Further fields of the training pods, as in Kubernetes."""

    node_selector: dict[str, ShortText] | None = Field(None, max_length=64)
    tolerations: list[Toleration] | None = Field(None, max_length=64)
    affinity: dict[str, Any] | None = None
    labels: dict[str, ShortText] | None = Field(None, max_length=64)
    annotations: dict[str, ShortText] | None = Field(None, max_length=64)
    env: list[EnvVar] | None = Field(None, max_length=128)
    env_from: list[EnvSource] | None = Field(None, max_length=32)
    service_account_name: ObjectName | None = None
    image_pull_secrets: list[LocalObjectReference] | None = Field(None, max_length=16)
    priority_class_name: ObjectName | None = None
    runtime_class_name: ObjectName | None = None
    scheduler_name: ObjectName | None = None
    resource_claims: list[ResourceClaim] | None = Field(None, max_length=16)


class Resources(ContractModel):
    """Requests and limits of the training container."""

    requests: dict[str, Quantity] | None = Field(None, max_length=16)
    limits: dict[str, Quantity] | None = declare(
        f"Limits of the container, as in Kubernetes. GPUs are {GPU_RESOURCE}, nvidia.com/mig-*, nvidia.com/gpu.shared "
        f"and amd.com/gpu. {GPU_RESOURCE}: 0 trains on the CPU.",
        shapes_weights=False,
        default_words=f"{GPU_RESOURCE}: 1",
        max_length=16,
    )
    claims: list[ContainerClaim] | None = declare(
        "Claims of podTemplate.resourceClaims that the container uses (Dynamic Resource Allocation). Without GPUs in "
        "limits, each entry gives the job one GPU.",
        shapes_weights=False,
        default_words="none",
        max_length=16,
    )

    @field_validator("requests", "limits")
    @classmethod
    def _whole_gpus(cls, amounts: dict[str, Quantity] | None) -> dict[str, Quantity] | None:
        for name, amount in (amounts or {}).items():
            if re.match(GPU_PATTERN, name) and not str(amount).isdigit():
                raise ValueError(f"{name} must be a whole number of GPUs, 0 or more; got {amount!r}")
        return amounts
