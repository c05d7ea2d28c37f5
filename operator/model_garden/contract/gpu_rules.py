"""The rules on GPUs and claims of devices: what a pod asks for is of one kind, and its container uses it."""

from __future__ import annotations

from model_garden.contract.pod import GPU_PATTERN, gpu_amounts
from model_garden.contract.rule import Document, Rule, get, has


def without_gpu(spec: Document) -> bool:
    """Whether the job trains on CPUs."""
    return 0 in gpu_amounts(get(spec, "resources.limits")).values()


WITHOUT_GPU = (
    f"({has('resources.limits')}"
    f" && self.resources.limits.exists(k, k.matches('{GPU_PATTERN}') && string(self.resources.limits[k]) == '0'))"
)
"""``without_gpu`` as CEL."""


def _names(spec: Document, field: str) -> set[str]:
    return {claim["name"] for claim in get(spec, field) or ()}


def _one_source(claim: Document) -> bool:
    return ("resourceClaimName" in claim) != ("resourceClaimTemplateName" in claim)


def _all_in(inner: str, outer: str) -> str:
    """CEL: each claim of a list has the name of one in the other list."""
    return (
        f"!({has(inner)}) || ({has(outer)}"
        f" && self.{inner}.all(one, self.{outer}.exists(other, other.name == one.name)))"
    )


GPU_RULES = (
    Rule(
        "resources.limits",
        lambda s: len(gpu_amounts(get(s, "resources.limits"))) > 1,
        f"!({has('resources.limits')}) || self.resources.limits.filter(k, k.matches('{GPU_PATTERN}')).size() < 2",
        "names two kinds of GPUs; a job trains on one kind, so keep one of them",
    ),
    Rule(
        "podTemplate.resourceClaims",
        lambda s: not all(map(_one_source, get(s, "podTemplate.resourceClaims") or ())),
        f"!({has('podTemplate.resourceClaims')}) || self.podTemplate.resourceClaims.all(c,"
        " has(c.resourceClaimName) != has(c.resourceClaimTemplateName))",
        "needs one of resourceClaimName and resourceClaimTemplateName in each claim",
    ),
    Rule(
        "podTemplate.resourceClaims",
        lambda s: not _names(s, "podTemplate.resourceClaims") <= _names(s, "resources.claims"),
        _all_in("podTemplate.resourceClaims", "resources.claims"),
        "has a claim that no container uses; add its name to resources.claims",
    ),
    Rule(
        "resources.claims",
        lambda s: bool(_names(s, "resources.claims")) and without_gpu(s),
        f"!({has('resources.claims')}) || self.resources.claims.size() == 0 || !({WITHOUT_GPU})",
        "asks for devices, but resources.limits has 0 GPUs, so they would not be used; remove one of the two",
    ),
    Rule(
        "resources.claims",
        lambda s: not _names(s, "resources.claims") <= _names(s, "podTemplate.resourceClaims"),
        _all_in("resources.claims", "podTemplate.resourceClaims"),
        "names a claim that podTemplate.resourceClaims does not have; add it there with resourceClaimTemplateName",
    ),
)
