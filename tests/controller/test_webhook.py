"""What is posted when a job ends, and what becomes of the answer."""

import asyncio
import base64
import json
import socket
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from model_garden.controller.webhook import Undelivered, post
from model_garden.controller.webhook_message import (
    InvalidWebhook,
    Message,
    Webhook,
    end_of,
    headers,
    parse_webhook,
)
from tests.monitoring.receiver import receiver

KEY = "whsec_" + base64.b64encode(bytes(range(24))).decode()
URL = "https://hooks.test/T0/secret"
JOB = {
    "metadata": {"namespace": "research", "name": "invoices", "uid": "0b1c"},
    "spec": {"baseModel": "org/model"},
    "status": {
        "phase": "Failed",
        "conditions": [{"type": "Running", "reason": "Failed", "message": "failed"}],
        "failure": {"reason": "InvalidDataset", "message": "row 7: <image> & no answer"},
        "startTime": "2026-11-27T12:00:00Z",
        "completionTime": "2026-11-27T13:00:00Z",
        "usage": {"gpuHours": 2.0, "trainingGpuHours": 1.5, "cost": 5.0, "currency": "EUR"},
    },
}


def secret(**values: str) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}


def send(url: str, *, local: bool = True, webhook: Webhook | None = None) -> str:
    """Why a message was not taken; empty if it was. A final error ends with a bang."""
    try:
        asyncio.run(post(webhook or Webhook(url), Message("id", "application/json", b"{}"), local=local))
    except Undelivered as error:
        assert url.rpartition("/")[2] not in str(error)
        return f"{error}!" if error.final else str(error)
    return ""


def test_a_secret_with_a_url_alone_is_told_of_every_end() -> None:
    assert parse_webhook(secret(url=URL + "\n")) == Webhook(URL, "json", ("Succeeded", "Failed", "Cancelled"), None)


def test_every_key_of_the_secret_is_read() -> None:
    found = parse_webhook(secret(url=URL, format="slack", events="Failed, Cancelled", signingKey=KEY))
    assert found == Webhook(URL, "slack", ("Failed", "Cancelled"), bytes(range(24)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "'url' must be the address"),
        ({"url": "hooks.test/T0/secret"}, "'url' must be the address"),
        ({"url": "file:///T0/secret"}, "'url' must be the address"),
        ({"url": "https://[T0/secret"}, "'url' must be the address"),
        ({"url": "https://T0\N{DOUBLE QUESTION MARK}/secret"}, "'url' must be the address"),
        ({"url": "https://T0:abc/secret"}, "'url' must be the address"),
        ({"url": "https://T0:65536/secret"}, "'url' must be the address"),
        ({"url": URL, "format": "teams"}, "'format' is 'teams'; it must be json or slack"),
        ({"url": URL, "events": "Failed,Ended"}, "'events' has 'Ended'; it lists some of Succeeded, Failed, Cancelled"),
        ({"url": URL, "signingKey": "short"}, "24 random bytes or more in base64"),
        ({"url": URL, "adress": "x"}, "the key 'adress' is unknown; the keys are url, format, events, signingKey"),
    ],
)
def test_a_wrong_key_of_the_secret_is_named_without_the_url(values: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidWebhook, match=words) as failed:
        parse_webhook(secret(**values))
    assert "T0" not in str(failed.value)
    assert failed.value.__cause__ is None


def test_the_end_of_a_job_is_a_cloud_event() -> None:
    event = json.loads(end_of(JOB, "json").body)
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "0b1c",
        "source": "/apis/model-garden.dev/v1alpha1/namespaces/research/trainingjobs/invoices",
        "type": "dev.model-garden.trainingjob.failed",
        "time": "2026-11-27T13:00:00Z",
        "datacontenttype": "application/json",
    }
    assert data == {
        "namespace": "research",
        "name": "invoices",
        "uid": "0b1c",
        "baseModel": "org/model",
        "phase": "Failed",
        "reason": "InvalidDataset",
        "message": "row 7: <image> & no answer",
        "startTime": "2026-11-27T12:00:00Z",
        "completionTime": "2026-11-27T13:00:00Z",
        "usage": {"gpuHours": 2.0, "trainingGpuHours": 1.5, "cost": 5.0, "currency": "EUR"},
    }


def test_slack_gets_text_with_its_special_characters_escaped() -> None:
    message = end_of(JOB, "slack")
    assert message.content_type == "application/json"
    text = "Failed: TrainingJob research/invoices\nrow 7: &lt;image&gt; &amp; no answer\n2.00 GPU-hours\n5.00 EUR"
    assert json.loads(message.body) == {"text": text}


def test_a_library_of_standard_webhooks_verifies_the_signature() -> None:
    """OpenAI's client verifies the webhooks of OpenAI, which are signed as Standard Webhooks has it."""
    import time

    message = end_of(JOB, "json")
    signed = headers(parse_webhook(secret(url=URL, signingKey=KEY)), message, int(time.time()))
    client = OpenAI(api_key="none", webhook_secret=KEY)
    client.webhooks.verify_signature(message.body, signed)
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.verify_signature(message.body + b" ", signed)


def test_answers_decide_whether_to_try_again() -> None:
    with receiver() as server:
        url = f"{server.url}/T0/secret"
        server.answers = [200, 404, 503, 429, 302]
        assert send(url) == ""
        assert send(url) == "its url answered with HTTP status 404!"
        assert send(url) == "its url answered with HTTP status 503"
        assert send(url) == "its url answered with HTTP status 429"
        assert send(url) == "its url answered with HTTP status 302; redirects are not followed!"
        assert server.at("/moved") == []


def test_no_connection_is_made_to_this_machine_unless_it_is_allowed() -> None:
    with receiver() as server:
        port = server.url.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"):
            refused = (
                "its url leads to a loopback, link-local or metadata address, which the operator does not connect to!"
            )
            assert send(f"http://{host}:{port}/secret", local=False) == refused
        assert server.posted == []


def test_the_reason_of_a_missing_answer_does_not_name_the_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert send(f"http://127.0.0.1:{port}/secret") == "its url cannot be connected to (Connection refused)"
    assert send("http://no-such-host.invalid/secret") == "the host of its url has no address"
