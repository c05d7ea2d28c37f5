"""Files of a web server, by https. A server lists no folder, and no credentials are sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model_garden import __version__
from model_garden.datasets.errors import without_secrets
from model_garden.remote.errors import RemoteError, reason_of
from model_garden.remote.store import Found

SECONDS = 60.0
"""Time without a byte after which a server counts as unreachable."""

IMAGE_SECONDS = 20.0
"""The same for an image that a row names."""
MAX_IMAGE_BYTES = 64 * 2**20
MAX_REDIRECTS = 5

_NO_HEAD = (405, 501)


@contextmanager
def web_store() -> Iterator[WebStore]:
    """A context with the store of all web servers."""
    import httpx

    headers, hooks = {"Accept-Encoding": "identity"}, {"request": [_require_https]}
    with httpx.Client(timeout=SECONDS, headers=headers, event_hooks=hooks) as client:
        yield WebStore(client)


class WebStore:
    """Any web server. A redirect is followed only with ``redirects``."""

    def __init__(self, client: Any, *, redirects: bool = True) -> None:
        self._client, self._redirects = client, redirects

    def find(self, address: str) -> Found:
        """The file at an address."""
        with _errors(address):
            answer = self._client.head(address, follow_redirects=self._redirects)
            if answer.status_code in _NO_HEAD:
                with self._client.stream("GET", address, follow_redirects=self._redirects) as answer:
                    pass  # its headers are enough
            _check(answer, address)
            return Found(address, int(answer.headers.get("content-length", -1)), _version(answer))

    def list(self, folder: str, *, deep: bool) -> list[Found]:  # noqa: ARG002
        """Nothing: web servers have no common way to list files."""
        return []

    def read(self, found: Found, start: int) -> Iterator[bytes]:
        """The bytes from ``start`` on; a server without ranges sends all, of which the first ones are skipped."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        request = {"headers": headers, "follow_redirects": self._redirects}
        with _errors(found.address), self._client.stream("GET", found.address, **request) as answer:
            _check(answer, found.address)
            if _version(answer) != found.version:
                raise RemoteError("Changed", f"{found.address}: changed while it was read; start the job again")
            skip = 0 if answer.status_code == 206 else start
            for block in answer.iter_raw():
                yield block[skip:]
                skip = max(0, skip - len(block))

    def may_have_md5(self, found: Found, md5: str) -> bool:  # noqa: ARG002
        """True: a web server gives no MD5."""
        return True

    def for_rows(self) -> WebStore:
        """A store that follows no redirect: rows are data, and must not lead to servers inside the cluster."""
        return WebStore(self._client, redirects=False)


class ImageStore(WebStore):
    """Images of any public server, none larger than ``MAX_IMAGE_BYTES``."""

    def find(self, address: str) -> Found:
        """The image at an address. Some servers answer GET alone, as those of signed addresses."""
        with _errors(address):
            answer = self._client.head(address, follow_redirects=True)
            if answer.status_code >= 400:
                with self._client.stream("GET", address, follow_redirects=True) as answer:
                    pass
            _check(answer, address)
            found = Found(address, int(answer.headers.get("content-length", -1)), _version(answer))
        _require_size(address, found.size)
        return found

    def read(self, found: Found, start: int) -> Iterator[bytes]:
        """The bytes from ``start`` on."""
        size = start
        for block in super().read(found, start):
            size += len(block)
            _require_size(found.address, size)
            yield block


@contextmanager
def image_store() -> Iterator[ImageStore]:
    """A context with the store of images at http(s) addresses of public servers."""
    import httpx

    from model_garden.remote.public import public_transport

    headers = {"Accept-Encoding": "identity", "User-Agent": f"model-garden/{__version__}"}
    with httpx.Client(
        transport=public_transport(), timeout=IMAGE_SECONDS, headers=headers, max_redirects=MAX_REDIRECTS
    ) as client:
        yield ImageStore(client)


def _require_size(address: str, size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise RemoteError("TooLarge", f"{address}: the image has more than {MAX_IMAGE_BYTES:,} bytes; scale it down")


def _require_https(request: Any) -> None:
    """Refuse a redirect that leaves https: nobody could tell who answers, and metadata servers of clouds speak http."""
    if request.url.scheme != "https":
        target = without_secrets(str(request.url))
        raise RemoteError("Denied", f"the server redirects to {target}, which is not https; use another address")


def _version(answer: Any) -> str:
    headers = answer.headers
    return str(headers.get("etag") or headers.get("last-modified") or "")


def _check(answer: Any, address: str) -> None:
    status = answer.status_code
    if status in (404, 410):
        raise RemoteError("NotFound", f"{address}: the server answers {status}; check the address")
    if status in (401, 403, 407):
        raise RemoteError(
            "Denied",
            f"{address}: the server answers {status}; only public files are read by https, so use s3:// or gs:// with "
            "storage.credentialsSecret",
        )
    if 300 <= status < 400:
        raise RemoteError("Denied", f"{address}: redirects elsewhere, and an image named in a row may not; copy it")
    if status >= 400:
        raise RemoteError("Unreachable", f"{address}: the server answers {status}; try again later")


@contextmanager
def _errors(address: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except httpx.InvalidURL:  # its text may hold a part of a password
        raise RemoteError("NotFound", f"{address}: it is not a valid address; check its host and port") from None
    except (httpx.HTTPError, OSError) as error:
        raise RemoteError("Unreachable", f"{address}: {reason_of(error)}; check the host and the network") from None
