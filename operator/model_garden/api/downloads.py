"""Archives that are sent as they are read."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from urllib.parse import quote

from fastapi.responses import StreamingResponse
from starlette.types import Send

from model_garden.cluster import ClusterError
from model_garden.services.errors import ServiceError

TAR = "application/x-tar"
log = logging.getLogger(__name__)


class Archive(StreamingResponse):
    """A tar stream. One that cannot be read to its end is cut off, so that no client takes it for whole."""

    async def stream_response(self, send: Send) -> None:
        """Send the answer; what breaks it off is one line of the log."""
        try:
            await super().stream_response(send)
        except (ServiceError, ClusterError, OSError) as failed:
            log.error("a download broke off: %s", failed)


async def archive(blocks: AsyncIterator[bytes], name: str, headers: dict[str, str] | None = None) -> Archive:
    """The answer with a tar stream, as the file ``NAME.tar``.

    Raises:
        ServiceError, ClusterError: its first block cannot be read; nothing has been sent then.
    """
    first = await anext(blocks)

    async def content() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    disposition = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}.tar"}
    return Archive(content(), media_type=TAR, headers=disposition | (headers or {}))
