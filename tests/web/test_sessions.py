"""Sessions in sealed cookies."""

import base64
import json
import secrets
import time

import pytest

from model_garden.api.problems import BadRequest, Unauthorized
from model_garden.web.sessions import MAX_COOKIE, Sessions

KEY = "k" * 32


def jwt(expires: float, bytes_of_signature: int = 256) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"e30.{claims}.{secrets.token_urlsafe(bytes_of_signature)}"


def test_a_cookie_is_opened_by_every_replica_with_the_key_and_shows_no_token() -> None:
    token = jwt(time.time() + 3600)
    cookie = Sessions(KEY).open(token, "ada")
    session = Sessions(KEY).read(cookie)
    assert session is not None
    assert (session.token, session.user) == (token, "ada")
    assert token not in cookie and base64.b64encode(token.encode()).decode()[:40] not in cookie


@pytest.mark.parametrize("cookie", ["x", "gAAAAA==", "é", "a" * 10_000])
def test_a_cookie_that_nobody_sealed_is_refused(cookie: str) -> None:
    with pytest.raises(Unauthorized):
        Sessions(KEY).read(cookie)


def test_a_cookie_that_was_changed_or_sealed_with_another_key_is_refused() -> None:
    cookie = Sessions(KEY).open("opaque", "ada")
    changed = cookie[:-2] + ("AA" if cookie[-2:] != "AA" else "BB")
    for sessions, sent in ((Sessions(), cookie), (Sessions("j" * 32), cookie), (Sessions(KEY), changed)):
        with pytest.raises(Unauthorized, match="another key"):
            sessions.read(sent)


def test_a_session_ends_with_its_token() -> None:
    sessions = Sessions(KEY)
    cookie = sessions.open(jwt(time.time() - 1), "ada")
    with pytest.raises(Unauthorized, match="when its token expired; log in again with a new token"):
        sessions.read(cookie)


def test_a_token_without_an_end_gets_a_session_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(KEY)
    cookie = sessions.open("opaque", "ada")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 11 * 3600)
    assert sessions.read(cookie)
    monkeypatch.setattr(time, "time", lambda: now + 13 * 3600)
    with pytest.raises(Unauthorized):
        sessions.read(cookie)


def test_a_copy_of_a_cookie_is_worth_nothing_after_logging_out() -> None:
    sessions = Sessions(KEY)
    cookie, other = sessions.open("opaque", "ada"), sessions.open("opaque", "ada")
    sessions.end(cookie)
    with pytest.raises(Unauthorized, match="logged out"):
        sessions.read(cookie)
    assert sessions.read(other)


def test_a_token_that_fits_no_cookie_is_refused_with_what_to_do() -> None:
    sessions = Sessions(KEY)
    assert len(sessions.open(jwt(time.time() + 60, 2500), "ada")) <= MAX_COOKIE
    with pytest.raises(BadRequest, match="fewer groups"):
        sessions.open(jwt(time.time() + 60, 4000), "ada")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="MODEL_GARDEN_SESSION_KEY has 5 characters"):
        Sessions("short")
