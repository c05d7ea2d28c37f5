"""The body of a request: of a bounded size, and it arrives in bounded time."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from model_garden.api.problems import BadRequest

MAX_BYTES = 1024 * 1024
"""More than the API server stores of one object."""
MAX_SECONDS = 30.0


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
