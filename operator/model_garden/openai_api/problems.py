"""Errors in OpenAI's shape: those of the REST API, in other clothes.

The client raises an exception by the HTTP status: https://github.com/openai/openai-python#handling-errors
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from model_garden.api.problems import BadRequest, Unauthorized, response_to
from model_garden.cluster import ClusterError
from model_garden.contract.resource import InvalidResource
from model_garden.openai_api.mapping import parameter
from model_garden.openai_api.request import Invalid
from model_garden.services.errors import ServiceError

_BAD_REQUEST = (409, 410, 422, 424)
"""Answered with 400, as OpenAI does. The client would send a request that was answered with 409 again."""
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error(status: int, code: str, message: str, param: str | None = None) -> JSONResponse:
    """The response for one error."""
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


def add_handlers(app: FastAPI) -> None:
    """Answer every failure of ``app`` in this shape."""
    for kind in (Unauthorized, BadRequest, InvalidResource, ServiceError, ClusterError, Exception):
        app.add_exception_handler(kind, _translated)
    app.add_exception_handler(Invalid, _invalid)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _http)


def _translated(_: Request, failed: Exception) -> JSONResponse:
    """The response of the REST API to ``failed``, with its status, words and headers."""
    answer = response_to(failed)
    problem: dict[str, Any] = json.loads(bytes(answer.body))
    status = 400 if problem["status"] in _BAD_REQUEST else problem["status"]
    wrong = [(parameter(field["field"]), field["message"]) for field in problem.get("errors") or ()]
    lines = [f"{param}: {message}" for param, message in wrong]
    if not wrong or problem["reason"] != "Invalid":  # the detail of an invalid job repeats its fields
        lines.insert(0, problem["detail"])
    made = error(status, problem["reason"], "; ".join(lines), wrong[0][0] if wrong else None)
    for header in ("WWW-Authenticate", "Retry-After"):
        if header in answer.headers:
            made.headers[header] = answer.headers[header]
    return made


def _invalid(_: Request, failed: Any) -> JSONResponse:
    return error(400, "invalid_value", str(failed), failed.param)


def _bad_parameters(_: Request, failed: Any) -> JSONResponse:
    """Parameters of path, query or header that break their rules."""
    item = failed.errors()[0]
    param = ".".join(str(part) for part in item["loc"][1:])
    return error(400, "invalid_value", f"{param}: {item['msg']}; got {item.get('input')!r}", param)


def _http(request: Request, failed: Any) -> JSONResponse:
    """A path or method that does not exist."""
    path = request.url.path
    message = f"there is no {path}" if failed.status_code == 404 else f"{request.method} is not possible for {path}"
    return error(failed.status_code, "not_found", message)
