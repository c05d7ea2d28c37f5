"""What a verb in a pod says, or fails to say, is answered in words."""

import asyncio
from typing import Any

import pytest

from model_garden.cluster import ClusterError
from model_garden.storage import pod_protocol
from model_garden.storage.pod import GONE
from model_garden.storage.pod_protocol import Conversation


class Said:
    """A command that has said all it says."""

    def __init__(self, *pieces: bytes, code: int = 0, stderr: str = "") -> None:
        self._pieces, self._code, self.stderr = iter(pieces), code, stderr

    async def read(self) -> bytes:
        return next(self._pieces, b"")

    async def wait(self) -> int:
        return self._code


def talk(said: Any) -> Conversation:
    return Conversation(said)


def test_a_verb_that_was_killed_before_it_answered_is_tried_in_another_pod() -> None:
    with pytest.raises(ClusterError) as failed:
        asyncio.run(talk(Said(code=137)).begin())
    assert failed.value.reason in GONE
    with pytest.raises(ClusterError, match="ended with code 2: no such module") as failed:
        asyncio.run(talk(Said(code=2, stderr="no such module\n")).begin())
    assert failed.value.reason not in GONE


def test_an_answer_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_protocol, "MAX_LINE", 1000)
    assert asyncio.run(talk(Said(b'{"a":', b" 1}\n")).hear()) == {"a": 1}
    with pytest.raises(ClusterError, match="longer than 1,000 bytes"):
        asyncio.run(talk(Said(*[bytes(100)] * 100)).hear())
