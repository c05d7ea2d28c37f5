"""Sessions of people who logged in: a cookie that holds the token, sealed so that only servers with the key open it.

The servers keep nothing, so that any replica answers any request (docs/adr/0012).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
import zlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from cryptography.fernet import Fernet, InvalidToken

from model_garden.api.access import expiry_of
from model_garden.api.problems import BadRequest, Unauthorized

KEY_VARIABLE = "MODEL_GARDEN_SESSION_KEY"
MIN_KEY = 32
"""Characters of a key."""
MAX_COOKIE = 3900
"""Characters of a cookie. Browsers drop one that has, with its name, more than 4096."""
MAX_SECONDS = 12 * 3600.0
"""How long a session lasts whose token names no end."""
MAX_ENDED = 100_000
AGAIN = "log in again"


@dataclass(frozen=True)
class Session:
    """A person who logged in: the token, who the cluster says it is, and the end in seconds since 1970."""

    id: str
    token: str
    user: str
    expires: float


class Sessions:
    """Opens, reads and ends sessions.

    Args:
        key: a random text that all replicas share; None for a new one, with which sessions end with this process.

    Raises:
        ValueError: the key is too short.
    """

    def __init__(self, key: str | None = None) -> None:
        if key is not None and len(key) < MIN_KEY:
            raise ValueError(
                f"{KEY_VARIABLE} has {len(key)} characters; it must be a random text of at least {MIN_KEY}"
            )
        digest = hashlib.sha256((key or secrets.token_urlsafe(MIN_KEY)).encode()).digest()
        self._seal = Fernet(base64.urlsafe_b64encode(digest))
        self._ended: dict[str, float] = {}

    def open(self, token: str, user: str) -> str:
        """The cookie of a new session, which ends with its token.

        Raises:
            BadRequest: the token is too long for a cookie.
        """
        expires = expiry_of(token) or time.time() + MAX_SECONDS
        session = Session(secrets.token_urlsafe(12), token, user, expires)
        cookie = self._seal.encrypt(zlib.compress(json.dumps(asdict(session)).encode(), 9)).decode()
        if len(cookie) > MAX_COOKIE:
            raise BadRequest(
                f"the token has {len(token):,} characters, too many for a session cookie; use a token with fewer "
                "groups, or put an authenticating proxy in front of this server"
            )
        return cookie

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None without one.

        Raises:
            Unauthorized: the session has ended, or the cookie is of another server.
        """
        if not cookie:
            return None
        try:
            session = Session(**json.loads(zlib.decompress(self._seal.decrypt(cookie.encode()))))
        except InvalidToken as unknown:
            raise Unauthorized(f"the session has ended, because this server has another key; {AGAIN}") from unknown
        if session.id in self._ended:
            raise Unauthorized(f"the session was logged out; {AGAIN}")
        if session.expires <= time.time():
            ended = datetime.fromtimestamp(session.expires, UTC)
            raise Unauthorized(
                f"the session ended at {ended:%H:%M} UTC on {ended:%Y-%m-%d}, when its token expired; "
                f"{AGAIN} with a new token"
            )
        return session

    def end(self, cookie: str | None) -> None:
        """End a session before its token expires: the cookie, and any copy of it, is refused from now on."""
        try:
            session = self.read(cookie)
        except Unauthorized:
            return
        if session is None:
            return
        now = time.time()
        self._ended = {one: until for one, until in self._ended.items() if until > now}
        while len(self._ended) >= MAX_ENDED:
            self._ended.pop(next(iter(self._ended)))
        self._ended[session.id] = session.expires
