"""The OpenAPI document: what FastAPI reads from the routes, with the schemas of the contract in snake_case.

FastAPI writes a schema by the camelCase names of its fields, so routes refer to schemas by name and ``document`` adds
them.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from model_garden.api.problems import MEDIA_TYPE
from model_garden.api.schemas import MODELS

PREFIX = "/api/v1"
TAGS = [
    {"name": "jobs", "description": "TrainingJobs of a namespace."},
    {"name": "changes", "description": "What may be asked of a job that exists; the operator carries it out."},
    {"name": "live", "description": "What happens to a job, while it happens."},
    {"name": "planning", "description": "Before a job exists: its defaults, its memory, and how to write it."},
    {"name": "data", "description": "Data sets and models of the workspace: what jobs read and write."},
    {"name": "server", "description": "About the server itself."},
]
_SCHEMAS = "#/components/schemas/"
STORAGE = (424, 501, 507)
"""Statuses of every route that uses data sets or models."""


_NAMES = {model.__name__: name for name, model in MODELS.items()}


def takes(schema: str, example: Any = None) -> dict[str, Any]:
    """``openapi_extra`` of a route whose body is the schema."""
    content = {"schema": {"$ref": _SCHEMAS + schema}} | ({"example": example} if example else {})
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def takes_files() -> dict[str, Any]:
    """``openapi_extra`` of a route whose body is files."""
    files = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    schema = {"type": "object", "properties": {"files": files}, "required": ["files"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def answers(good: dict[int, str | None], *bad: int, text: str | None = None) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route. Every route that asks the cluster may also answer 401, 403, 404, 429, 502 or 503.

    Args:
        good: the schema of each good status; None for an answer without content.
        bad: statuses that are problem details.
        text: the media type of good answers that are text, not JSON.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for status, schema in good.items():
        content = {text: {"schema": {"type": "string"}}} if text else _json(schema or "")
        found[status] = {"description": _WORDS[status]} | ({} if schema is None else {"content": content})
    for status in sorted({*bad, 401, 403, 404, 429, 502, 503}):
        found[status] = {"description": _WORDS[status], "content": _json("Problem", MEDIA_TYPE)}
    return found


def _json(schema: str, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _SCHEMAS + schema}}}


_WORDS = {
    200: "Done.",
    201: "Created.",
    204: "Done; there is no content.",
    202: "Accepted; the operator carries it out.",
    400: "The request cannot be read.",
    401: "Credentials are missing or not accepted.",
    403: "The caller may not do this.",
    404: "There is no such job, data set, model or namespace.",
    409: "The state of the job, data set or model, or another job of the name, forbids it.",
    408: "The body did not arrive in time.",
    410: "The continue token expired; start from the first page.",
    413: "The body is too large.",
    415: "The body is of another content type.",
    422: "A field or parameter is wrong; errors names each.",
    424: "Something that the request needs from elsewhere cannot be read.",
    429: "Too many requests; Retry-After says when to try again.",
    501: "Packages that this needs are not installed on the server.",
    502: "The API server failed.",
    503: "The API server does not answer, or the CRD is not installed.",
    507: "Data sets and models cannot be read or written: the storage is full or read-only.",
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of ``app``, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes, tags=app.openapi_tags
        )
        components = made.setdefault("components", {})
        components["schemas"] = schemas()
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}, {}]
        for path in made["paths"].values():
            for operation in path.values():
                _tidy(operation)
        app.openapi_schema = made
    return app.openapi_schema


def _tidy(operation: dict[str, Any]) -> None:
    """Remove what FastAPI adds of its own: its validation error is never sent."""
    unprocessable = operation["responses"].get("422", {}).get("content", {})
    if "application/json" in unprocessable:
        del unprocessable["application/json"]
        if not unprocessable:
            del operation["responses"]["422"]


def schemas() -> dict[str, Any]:
    """Every schema by its name, its fields in snake_case."""
    _, made = models_json_schema(
        [(model, "serialization") for model in MODELS.values()], by_alias=False, ref_template=_SCHEMAS + "{model}"
    )
    renamed = {_NAMES.get(name, name): _plain(schema) for name, schema in made["$defs"].items()}
    return dict(sorted(renamed.items()))


def _plain(node: Any) -> Any:
    """A schema without pydantic's titles and without ``declaration``, and with the names of ``MODELS``."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {
        key: {name: _plain(inner) for name, inner in value.items()} if key == "properties" else _plain(value)
        for key, value in node.items()
        if key != "declaration" and not (key == "title" and isinstance(value, str))
    }
    if (name := str(made.get("$ref", "")).removeprefix(_SCHEMAS)) in _NAMES:
        made["$ref"] = _SCHEMAS + _NAMES[name]
    return made
