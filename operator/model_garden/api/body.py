"""The body of a request, which is of a bounded size and arrives in bounded time; and that of an answer."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect

from model_garden.api.problems import BadRequest

MAX_BYTES = 1024 * 1024
"""More than the API server stores of one object."""
MAX_SECONDS = 30.0
_JSON: TypeAdapter[Any] = TypeAdapter(Any)


class JsonAnswer(JSONResponse):
    """A JSON document, written several times as fast as by the standard library."""

    def render(self, content: Any) -> bytes:
        """The document as JSON."""
        return _JSON.dump_json(content)


async def read_body(request: Request, content_type: str) -> bytes:
    """The body.

    Raises:
        BadRequest: it is of another content type, is too large, or did not arrive in time.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != content_type:
        raise BadRequest(f"the Content-Type is {kind or 'missing'}; send {content_type}", 415)
    text = bytearray()
    try:
        async with asyncio.timeout(MAX_SECONDS):
            async for chunk in request.stream():
                text += chunk
                if len(text) > MAX_BYTES:
                    raise BadRequest(f"the body is larger than {MAX_BYTES:,} bytes", 413)
    except ClientDisconnect as gone:
        raise BadRequest("the connection ended before the body arrived") from gone
    except TimeoutError as slow:
        raise BadRequest(f"the body did not arrive within {MAX_SECONDS:.0f} seconds", 408) from slow
    return bytes(text)


async def read_json(request: Request) -> Any:
    """The body's value.

    Raises:
        BadRequest: it is not JSON, is too large, or did not arrive in time.
    """
    # A web page elsewhere cannot send this content type without asking first.
    text = await read_body(request, "application/json")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as wrong:
        raise BadRequest(f"the body is not JSON: {wrong}") from wrong


Json = Annotated[Any, Depends(read_json)]
