"""The store of an address: a bucket, or a web server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model_garden.contract.addresses import bucket_and_key
from model_garden.remote.errors import RemoteError, reason_of
from model_garden.remote.store import Found, Store

BLOCK = 8 * 2**20
"""Bytes that are read or written at a time."""
RETRIES = 5
"""How often a request is repeated while the server does not answer or fails, with growing pauses."""


@contextmanager
def open_store(address: str, endpoint: str | None = None) -> Iterator[Store]:
    """A context with the store of an address.

    Args:
        address: an address of the contract (``addresses.is_remote``).
        endpoint: the URL of the server of a bucket; None for the variables of the SDKs, else AWS or Google.
    """
    if address.startswith("https://"):
        from model_garden.remote.web import web_store

        with web_store() as store:
            yield store
    else:
        yield BucketStore(address, endpoint)


class BucketStore:
    """A bucket of S3 or of Google Cloud Storage. Credentials come from the variables of their SDKs."""

    def __init__(self, address: str, endpoint: str | None = None) -> None:
        self._scheme = address.partition("://")[0]
        self._bucket, _ = bucket_and_key(address)
        with _errors(f"{self._scheme}://{self._bucket}"):
            self._store = _client(self._scheme, self._bucket, endpoint)

    def find(self, address: str) -> Found:
        """The object at an address."""
        with _errors(address):
            return self._found(self._store.head(bucket_and_key(address)[1]))

    def list(self, folder: str, *, deep: bool) -> list[Found]:
        """The objects below a folder, in the order of their keys."""
        prefix = bucket_and_key(folder)[1] or None
        with _errors(folder):
            if deep:
                objects = [meta for page in self._store.list(prefix, chunk_size=1000) for meta in page]
            else:
                objects = self._store.list_with_delimiter(prefix)["objects"]
        return sorted(map(self._found, objects), key=lambda found: found.address)

    def read(self, found: Found, start: int) -> Iterator[bytes]:
        """The bytes of this version of an object from ``start`` on; another version is ``Changed``."""
        key = bucket_and_key(found.address)[1]
        with _errors(found.address):
            for first in range(start, found.size, BLOCK):
                last = min(first + BLOCK, found.size)
                yield bytes(self._store.get(key, options={"range": (first, last), "if_match": found.version}).bytes())

    def may_have_md5(self, found: Found, md5: str) -> bool:
        """Whether an object can have an MD5. The entity tag of S3 is the MD5 of an object that was uploaded at once.

        It is not where S3 encrypts the object with a key of its owner.
        Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
        """
        import httpx
        import obstore

        tag = found.version.strip('"')
        if self._scheme != "s3" or tag == md5 or not re.fullmatch("[0-9a-f]{32}", tag):
            return True
        with _errors(found.address):
            url = obstore.sign(self._store, "HEAD", bucket_and_key(found.address)[1], _minute())
            headers = httpx.head(url).headers
        return headers.get("x-amz-server-side-encryption", "AES256") != "AES256" or any(
            name.startswith("x-amz-server-side-encryption-customer") for name in headers
        )

    def for_rows(self) -> Store:
        """This store: a bucket has no redirects."""
        return self

    def write(self, address: str, content: bytes | Iterator[bytes]) -> None:
        """Write an object, whole or not at all; blocks are uploaded in parts, several at the same time."""
        with _errors(address):
            self._store.put(bucket_and_key(address)[1], content, chunk_size=BLOCK, max_concurrency=4)

    def remove(self, address: str) -> None:
        """Delete an object."""
        with _errors(address):
            self._store.delete(bucket_and_key(address)[1])

    def _found(self, meta: Any) -> Found:
        version = meta["e_tag"] or meta["last_modified"].isoformat()
        return Found(f"{self._scheme}://{self._bucket}/{meta['path']}", meta["size"], version)


def _client(scheme: str, bucket: str, endpoint: str | None) -> Any:
    from datetime import timedelta

    from obstore.store import GCSStore, S3Store

    options: Any = {
        "client_options": {"allow_http": True, "timeout": timedelta(minutes=5), "connect_timeout": "10 seconds"},
        "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(minutes=2)},
    }
    if scheme == "gs":
        return GCSStore(bucket, **options | ({"base_url": endpoint.rstrip("/")} if endpoint else {}))
    return S3Store(bucket, **options | ({"endpoint": endpoint.rstrip("/")} if endpoint else {}))


def _minute() -> Any:
    from datetime import timedelta

    return timedelta(minutes=1)


@contextmanager
def _errors(address: str) -> Iterator[None]:
    """Errors of obstore and of the network as RemoteError. The cause is dropped, since it may hold credentials."""
    from obstore import exceptions

    try:
        yield
    except RemoteError:
        raise
    except FileNotFoundError:
        raise RemoteError("NotFound", f"{address}: does not exist; check the bucket and the key") from None
    except exceptions.PreconditionError:
        raise RemoteError("Changed", f"{address}: changed while it was read; start the job again") from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise RemoteError("Denied", _denied(address, reason_of(error))) from None
    except (exceptions.BaseError, OSError, ValueError) as error:
        reason = reason_of(error)
        if "NoSuchBucket" in reason:
            raise RemoteError("NotFound", f"{address}: {reason}; check the name of the bucket") from None
        if "redentials" in reason or "169.254.169.254" in str(error) or "metadata.google" in str(error):
            raise RemoteError("Denied", _denied(address, "no credentials were found")) from None
        if _is_refusal(error):
            raise RemoteError("Denied", _denied(address, reason)) from None
        raise RemoteError("Unreachable", f"{address}: {reason}; check the network and storage.endpointUrl") from None


def _is_refusal(error: Exception) -> bool:
    """Whether the server answered that the request is wrong, as with the region of another bucket: no retry helps."""
    text = str(error)
    status = re.search(r"status code: (\d{3})", text)
    return "incorrectly configured region" in text or bool(
        status and 300 <= int(status[1]) < 500 and status[1] not in ("408", "429")
    )


def _denied(address: str, reason: str) -> str:
    return (
        f"{address}: {reason}; check the keys of the Secret in storage.credentialsSecret and the rights of its account "
        "(on your own machine: the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "GOOGLE_SERVICE_ACCOUNT_KEY)"
    )
