"""Errors as problem details (RFC 9457), in the words of the command line.

``errors`` has one entry for each field that is wrong, in the manner of Kubernetes' ``StatusCause``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.alias_generators import to_snake
from starlette.exceptions import HTTPException
from starlette.routing import Match

from model_garden.cluster import ClusterError
from model_garden.cluster.errors import NOT_CONFIGURED, UNREACHABLE
from model_garden.contract.resource import InvalidResource
from model_garden.services import format
from model_garden.services.errors import (
    BadToken,
    Conflict,
    KeyReused,
    MissingPackages,
    NotFound,
    ServiceError,
    Unavailable,
    cluster_problems,
)
from model_garden.storage.interface import BrokenDataset, InvalidPath, StorageFailed, UploadRefused

MEDIA_TYPE = "application/problem+json"
_FIELD = re.compile(r"((?:spec|metadata)[^\s:]*): (.*)", re.DOTALL)
_log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """One field that is wrong."""

    field: str
    """Path of the field as this API spells it; of data, its file and row."""
    reason: str
    """One CamelCase word for programs."""
    message: str
    """What is wrong, and the fix."""


class Problem(BaseModel):
    """Why a request failed (RFC 9457)."""

    type: str
    """Always ``about:blank``: ``reason`` tells problems apart."""
    title: str
    """The HTTP status in words."""
    status: int
    """The HTTP status."""
    reason: str
    """One CamelCase word for programs."""
    detail: str
    """What is wrong, and the fix."""
    errors: list[FieldError] | None = None
    """The fields that are wrong."""


class Unauthorized(Exception):
    """The request has no credentials that the API server could check."""


class NoToken(Unauthorized):
    """The request has no credentials at all: the caller has not logged in yet."""


class BadRequest(Exception):
    """A request that cannot be read; ``status`` is its HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class TooManyRequests(Exception):
    """A caller asks for more than its share; ``retry_seconds`` is when to try again."""

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


def problem(
    status: int,
    reason: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response for one problem."""
    title = HTTPStatus(status).phrase
    found = Problem(type="about:blank", title=title, status=status, reason=reason, detail=detail)
    if errors:
        found.errors = list(errors)
    return JSONResponse(found.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


def response_to(failed: Exception) -> JSONResponse:
    """The response for what a service or the cluster raised; 500 for an exception that nobody expects."""
    match failed:
        case Unauthorized():
            return problem(401, "Unauthorized", str(failed), headers={"WWW-Authenticate": "Bearer"})
        case BadRequest():
            return problem(failed.status, "BadRequest", str(failed))
        case TooManyRequests():
            wait = {"Retry-After": str(failed.retry_seconds)}
            return problem(429, "TooManyRequests", f"{failed}; try again in {failed.retry_seconds} s", headers=wait)
        case InvalidResource():
            return _of_lines(422, "Invalid", failed.problems)
        case BrokenDataset():
            count = sum(check["problem_count"] for check in failed.report.checks)
            found = format.count(count, "problem")
            detail = f"{failed.report.folder} is not stored: {found}; fix the data, or send keep_invalid=true"
            return problem(422, "BrokenDataset", detail, [_file_error(line) for line in failed.problems])
        case InvalidPath() | UploadRefused():
            return problem(422, type(failed).__name__, str(failed), [_file_error(line) for line in failed.problems])
        case ServiceError():
            return _of_lines(*_SERVICE[type(failed)], failed.problems)
        case ClusterError():
            return _of_cluster(failed)
    _log.error("unexpected error", exc_info=failed)
    return problem(500, "InternalError", f"unexpected {type(failed).__name__}; the server's log has its traceback")


_SERVICE: dict[type[ServiceError], tuple[int, str]] = {
    NotFound: (404, "NotFound"),
    Conflict: (409, "Conflict"),
    KeyReused: (422, "IdempotencyKeyReused"),
    BadToken: (400, "BadToken"),
    Unavailable: (424, "Unavailable"),
    MissingPackages: (501, "NotImplemented"),
    StorageFailed: (507, "StorageFailed"),
}


def _of_lines(status: int, reason: str, lines: Sequence[str]) -> JSONResponse:
    """The response for lines such as ``spec.suspend: must be …``; those of no field are the detail."""
    errors = [_field_error(*found.groups()) for line in lines if (found := _FIELD.fullmatch(line))]
    others = [line for line in lines if not _FIELD.fullmatch(line)]
    detail = "; ".join(others or (f"{error.field}: {error.message}" for error in errors))
    return problem(status, reason, detail, errors)


def _field_error(path: str, message: str, reason: str | None = None) -> FieldError:
    if reason is None:
        missing, unknown = message.startswith("required field"), message.startswith("unknown field")
        reason = "FieldValueRequired" if missing else "FieldUnknown" if unknown else "FieldValueInvalid"
    return FieldError(field=field_name(path), reason=reason, message=message)


def _file_error(line: str) -> FieldError:
    """The error of ``FILE row N: reason; fix``."""
    place, _, message = line.partition(": ")
    return FieldError(field=place, reason="FieldValueInvalid", message=message)


def field_name(path: str) -> str:
    """A path of the resource as the flat document of this API spells it.

    >>> field_name("spec.hyperparameters.learningRate"), field_name("metadata.name")
    ('hyperparameters.learning_rate', 'name')
    """
    inside = re.sub(r"^(spec|metadata)\.?", "", path)
    return ".".join(to_snake(part) if part.isidentifier() else part for part in inside.split("."))


def _of_cluster(refused: ClusterError) -> JSONResponse:
    errors = [_field_error(cause.field, cause.message, cause.reason) for cause in refused.causes if cause.field]
    detail = "; ".join(cluster_problems(refused))
    status, reason = refused.status, refused.reason
    headers = {}
    if refused.reason in (UNREACHABLE, NOT_CONFIGURED):
        status, headers = 503, {"Retry-After": "5"}
    elif status == 404 and reason != "NotFound":  # the path of TrainingJobs itself is unknown
        status, reason = 503, "NotInstalled"
    elif status == 401:
        detail = f"the API server does not accept these credentials: {detail}; log in again or send another token"
        headers = {"WWW-Authenticate": "Bearer"}
    elif status >= 500 and status != 503:
        status = 502
    if refused.retry_after is not None:
        headers["Retry-After"] = f"{refused.retry_after:.0f}"
    return problem(status, reason, detail, errors, headers)


def add_handlers(app: FastAPI) -> None:
    """Answer every failure of ``app`` with problem details."""

    def expected(_: Request, failed: Exception) -> JSONResponse:
        return response_to(failed)

    for kind in (Unauthorized, BadRequest, TooManyRequests, InvalidResource, ServiceError, ClusterError, Exception):
        app.add_exception_handler(kind, expected)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _http)


def _bad_parameters(_: Request, failed: Any) -> JSONResponse:
    """Parameters of path, query or header that break their rules."""
    errors = [
        FieldError(
            field=".".join(str(part) for part in item["loc"]),
            reason="FieldValueRequired" if item["type"] == "missing" else "FieldValueInvalid",
            message=f"{item['msg']}; got {item.get('input')!r}",
        )
        for item in failed.errors()
    ]
    return problem(422, "Invalid", "; ".join(f"{error.field}: {error.message}" for error in errors), errors)


def _http(request: Request, failed: Any) -> JSONResponse:
    """A path or method that does not exist."""
    path, status = request.url.path, failed.status_code
    if status == 405:
        allowed = ", ".join(sorted(_methods(request)))
        detail = f"{request.method} is not possible for {path}; use {allowed}"
        return problem(status, "MethodNotAllowed", detail, headers={"Allow": allowed})
    detail = f"there is no {path}" if status == 404 else str(failed.detail)
    reason = HTTPStatus(status).phrase.title().replace(" ", "")
    return problem(status, reason, detail, headers=failed.headers)


def _methods(request: Request) -> set[str]:
    """The methods of all routes of a path: Starlette itself names those of the first one."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
