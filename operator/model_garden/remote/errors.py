"""Why remote storage could not be read or written. A message names the address and the fix, and no credentials."""

from __future__ import annotations

import os
import re
from typing import Literal

Kind = Literal["NotFound", "Denied", "Unreachable", "Changed", "Damaged", "Unwritable", "Full", "TooLarge"]

SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
)
"""Environment variables whose values no message may hold."""


class RemoteError(Exception):
    """Remote storage could not be read or written.

    Args:
        kind: ``NotFound``: there is no such object. ``Denied``: the credentials are wrong or lack a right.
            ``Unreachable``: no answer, or an error of the server; a retry can help. ``Changed``: another version than
            expected. ``Damaged``: other bytes than the server's checksum says. ``Unwritable``: the cache is read-only.
            ``Full``: the cache has not the space. ``TooLarge``: an image, or all of them, are more than is fetched.
        message: the address, what is wrong, and the fix.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind


def reason_of(error: BaseException) -> str:
    """What a server said, in one line: the code and the message of an S3 error, else the status, else the first line.

    Only these parts are taken: the answer to a wrong signature holds the key's id and the text that was signed.
    """
    text = str(error)
    found = [match[1] for tag in ("Code", "Message") if (match := re.search(rf"<{tag}>([^<]*)</{tag}>", text))]
    if found:
        return _without_secrets(": ".join(found))
    if status := re.search(r"status code: (\d{3}[^:\n]*)", text):
        return status[1].strip()
    causes = re.findall(r'(?:source: |: )([^:{}"]*(?:refused|timed out|dns error|resolve|certificate)[^:{}"]*)', text)
    line = causes[-1] if causes else (text.strip().splitlines() or [type(error).__name__])[0]
    return _without_secrets(line.strip())[:200] or type(error).__name__


def _without_secrets(text: str) -> str:
    for name in SECRET_VARIABLES:
        if value := os.environ.get(name, "").strip():
            text = text.replace(value, "***")
    return re.sub(r"(X-Amz-[A-Za-z-]+|Signature|token)=[^&\s]+", r"\1=***", text)
