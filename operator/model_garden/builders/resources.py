"""Requests and limits of the trainer container, for training and for the preflight. Pure functions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from model_garden.contract.pod import Quantity, gpu_amounts
from model_garden.contract.spec import EffectiveSpec

Amounts = dict[str, Quantity]

_REQUESTS_ON_GPU: Amounts = {"cpu": "2", "memory": "8Gi"}
_REQUESTS_ON_CPU: Amounts = {"cpu": "500m", "memory": "1Gi"}
_PREFLIGHT_LIMITS: Amounts = {"cpu": "2", "memory": "8Gi"}
_SUFFIXES = {
    **{"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


def training_resources(spec: EffectiveSpec) -> dict[str, Any]:
    """``spec.resources``, with requests for CPU and memory added if it has none.

    Kueue counts requests, so every container has some. A GPU count of 0 is removed, since some clusters refuse it.
    """
    given = spec.resources.to_dict() if spec.resources else {}
    limits, requests = dict(given.get("limits") or {}), dict(given.get("requests") or {})
    for amounts in (limits, requests):
        for name in [name for name, gpus in gpu_amounts(amounts).items() if not gpus]:
            del amounts[name]
    for name, amount in (_REQUESTS_ON_GPU if spec.gpus else _REQUESTS_ON_CPU).items():
        if name not in limits:  # Kubernetes sets the request to the limit
            requests.setdefault(name, amount)
    claims = {"claims": given["claims"]} if given.get("claims") else {}
    return {"requests": requests, "limits": limits} | claims


def preflight_resources(spec: EffectiveSpec) -> dict[str, Amounts]:
    """Small requests without a GPU, and limits, since a ResourceQuota of limits refuses a pod without them.

    The limits for CPU and memory are those of ``spec.resources``, if it has any.
    """
    given = (spec.resources and spec.resources.limits) or {}
    limits = {name: given.get(name, amount) for name, amount in _PREFLIGHT_LIMITS.items()}
    requests = {name: min(amount, limits[name], key=amount_of) for name, amount in _REQUESTS_ON_CPU.items()}
    return {"requests": requests, "limits": limits}


def resource_problems(spec: EffectiveSpec) -> list[str]:
    """One line for each amount of ``spec.resources`` that is not a quantity."""
    problems = []
    given = spec.resources.to_dict() if spec.resources else {}
    for field in ("requests", "limits"):
        for name, amount in (given.get(field) or {}).items():
            try:
                amount_of(amount)
            except ValueError as error:
                problems.append(
                    f"spec.resources.{field}.{name}: {error}; use a number with a unit, such as 500m or 8Gi"
                )
    return problems


def amount_of(quantity: Quantity) -> Decimal:
    """A Kubernetes quantity as a number: ``500m`` is 0.5, ``1Ki`` and ``1.024e3`` are 1024.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    Raises:
        ValueError: it is not a quantity.
    """
    text = str(quantity)
    number = text.rstrip("numkKMGTPEi")
    try:
        return Decimal(number) * _SUFFIXES[text[len(number) :]]
    except (ArithmeticError, KeyError) as error:
        raise ValueError(f"{text!r} is not a Kubernetes quantity") from error
