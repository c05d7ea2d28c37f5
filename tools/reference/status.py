"""docs/reference/status.md: every field of the status, as the CRD describes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from model_garden.contract.crd import custom_resource_definition
from tools.reference.markdown import page, table

INTRODUCTION = """
The operator writes the status; no one else should. `kubectl explain trainingjob.status` says the same as this page.
Times are RFC 3339 in UTC. [status.md](../status.md) explains the phases, [troubleshoot.md](../troubleshoot.md) the
reasons, and [spec.md](spec.md) the fields of `effectiveSpec`.
"""


def status_reference() -> str:
    """The page as Markdown."""
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rows = list(fields(schema["properties"]["status"]))
    text = table(["field", "type", "meaning"], rows)
    return page("Status reference", "operator/model_garden/contract/status.py", INTRODUCTION, text)


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Path, type and meaning of each field below ``schema``, a parent before its children."""
    for name, field in schema.get("properties", {}).items():
        inner = field.get("items", field)
        several = "items" in field
        where = path + name + ("[]" if several else "")
        yield f"`{where}`", ("list of " if several else "") + _type(inner), field.get("description", "")
        yield from fields(inner, f"{where}.")


def _type(field: dict[str, Any]) -> str:
    return " / ".join(field["enum"]) if "enum" in field else str(field.get("type", "object"))
