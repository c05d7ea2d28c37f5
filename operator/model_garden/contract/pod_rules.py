"""The rules on podTemplate: a pod that trains does not pass for another, and is no freer than the operator makes it."""

from __future__ import annotations

from collections.abc import Callable

from model_garden.contract.names import GROUP
from model_garden.contract.rule import Document, Rule, get, has

_OWN = f"{GROUP}/"
_NAME = "app.kubernetes.io/name"
_NAMED = "model-garden"
"""With this label the chart's Services and NetworkPolicies select the pods of the operator and of the API."""
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_OF_THE_CLUSTER = "system-"


def _has_key(field: str, prefix: str) -> Callable[[Document], bool]:
    return lambda spec: any(key.startswith(prefix) for key in get(spec, field) or ())


def _no_key(field: str, prefix: str) -> str:
    """CEL: no key of a map begins so."""
    return f"!({has(field)}) || !self.{field}.exists(key, key.startsWith('{prefix}'))"


_LABELS, _ANNOTATIONS, _PRIORITY = "podTemplate.labels", "podTemplate.annotations", "podTemplate.priorityClassName"

POD_RULES = (
    Rule(
        _LABELS,
        _has_key(_LABELS, _OWN),
        _no_key(_LABELS, _OWN),
        f"has a key that begins with {_OWN}, which the operator sets; remove it",
    ),
    Rule(
        _LABELS,
        lambda s: (get(s, _LABELS) or {}).get(_NAME) == _NAMED,
        f"!({has(_LABELS)}) || !('{_NAME}' in self.{_LABELS}) || self.{_LABELS}['{_NAME}'] != '{_NAMED}'",
        f"has {_NAME}: {_NAMED}, the label of the operator's pods; use another value",
    ),
    Rule(
        _ANNOTATIONS,
        _has_key(_ANNOTATIONS, _OWN),
        _no_key(_ANNOTATIONS, _OWN),
        f"has a key that begins with {_OWN}; remove it, or annotate the TrainingJob itself",
    ),
    Rule(
        _ANNOTATIONS,
        _has_key(_ANNOTATIONS, _APPARMOR),
        _no_key(_ANNOTATIONS, _APPARMOR),
        f"has a key that begins with {_APPARMOR}, which can turn AppArmor off; remove it",
    ),
    Rule(
        _PRIORITY,
        lambda s: str(get(s, _PRIORITY) or "").startswith(_OF_THE_CLUSTER),
        f"!({has(_PRIORITY)}) || !self.{_PRIORITY}.startsWith('{_OF_THE_CLUSTER}')",
        f"is a class for parts of the cluster; name one that does not begin with {_OF_THE_CLUSTER}",
    ),
)
