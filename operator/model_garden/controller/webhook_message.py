"""PURE: the webhook of a namespace, read from its Secret, and what is posted to it when a TrainingJob ends.

The body is a CloudEvent, or a message in Slack's format, which Mattermost and Rocket.Chat read too. With a signing key
the request is signed as Standard Webhooks has it.
Sources: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md,
https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks,
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from model_garden import __version__
from model_garden.contract import names

Object = dict[str, Any]
Format = Literal["json", "slack"]
Ended = Literal["Succeeded", "Failed", "Cancelled"]

SECRET = "model-garden-webhook"
KEYS = ("url", "format", "events", "signingKey")
KEY_PREFIX = "whsec_"
LEAST_KEY_BYTES = 24
_TYPE = "dev.model-garden.trainingjob"


class InvalidWebhook(ValueError):
    """A key of the Secret has a value without meaning. The message names the key, and never holds the URL."""


@dataclass(frozen=True)
class Webhook:
    """The webhook of a namespace; ``events`` are the phases that it is told of."""

    url: str
    format: Format = "json"
    events: tuple[Ended, ...] = get_args(Ended)
    signing_key: bytes | None = None


@dataclass(frozen=True)
class Message:
    """What is posted: the id, by which a receiver knows a message that comes twice, and the body."""

    id: str
    content_type: str
    body: bytes


def parse_webhook(secret: Object) -> Webhook:
    """The webhook of a Secret.

    Raises:
        InvalidWebhook: a key is missing, unknown or wrong.
    """
    data = {key: _text(key, value) for key, value in (secret.get("data") or {}).items()}
    if unknown := sorted(data.keys() - set(KEYS)):
        raise InvalidWebhook(f"the key {unknown[0]!r} is unknown; the keys are {', '.join(KEYS)}")
    if not _is_address(data.get("url", "")):
        raise InvalidWebhook("the key 'url' must be the address of the webhook, which begins with https:// or http://")
    form = data.get("format") or "json"
    if form not in get_args(Format):
        raise InvalidWebhook(f"the key 'format' is {form!r}; it must be {' or '.join(get_args(Format))}")
    given = [name.strip() for name in data.get("events", "").split(",") if name.strip()] or get_args(Ended)
    if wrong := [name for name in given if name not in get_args(Ended)]:
        raise InvalidWebhook(f"the key 'events' has {wrong[0]!r}; it lists some of {', '.join(get_args(Ended))}")
    events = tuple(one for one in get_args(Ended) if one in given)
    return Webhook(data["url"], "slack" if form == "slack" else "json", events, _signing_key(data.get("signingKey")))


def _is_address(url: str) -> bool:
    """Whether a URL has a host, and a port that is a number. The errors of the library would name the host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _text(key: str, value: str) -> str:
    try:
        return base64.b64decode(value).decode().strip()
    except UnicodeDecodeError as error:
        raise InvalidWebhook(f"the key {key!r} is not text in UTF-8") from error


def _signing_key(text: str | None) -> bytes | None:
    if not text:
        return None
    try:
        key = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < LEAST_KEY_BYTES:
        raise InvalidWebhook(
            f"the key 'signingKey' must be {KEY_PREFIX} and {LEAST_KEY_BYTES} random bytes or more in base64: "
            f'echo "{KEY_PREFIX}$(openssl rand -base64 {LEAST_KEY_BYTES})"'
        )
    return key


def end_of(job: Object, form: Format) -> Message:
    """The message about a TrainingJob that has ended. Its id is the uid: a job ends once."""
    data = _facts(job)
    kind = f"{_TYPE}.{data['phase'].lower()}"
    return _message(form, job["metadata"]["uid"], kind, _source(job), _sentence(data), data)


def trial_message(namespace: str, form: Format, unique: str) -> Message:
    """The message that tries a webhook."""
    source = f"/apis/{names.API_VERSION}/namespaces/{namespace}"
    text = f"Model Garden can reach the webhook of the namespace {namespace}."
    return _message(form, unique, f"{_TYPE}.test", source, text, {"namespace": namespace, "message": text})


def headers(webhook: Webhook, message: Message, now: int) -> dict[str, str]:
    """The headers of the request; ``now`` is in seconds since 1970."""
    found = {
        "Content-Type": message.content_type,
        "User-Agent": f"model-garden/{__version__}",
        "webhook-id": message.id,
        "webhook-timestamp": str(now),
    }
    if webhook.signing_key:
        signed = b".".join((message.id.encode(), str(now).encode(), message.body))
        digest = hmac.new(webhook.signing_key, signed, hashlib.sha256).digest()
        found["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return found


def _message(form: Format, unique: str, kind: str, source: str, text: str, data: Object) -> Message:
    if form == "slack":
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return Message(unique, "application/json", json.dumps({"text": escaped}).encode())
    event = {
        "specversion": "1.0",
        "id": unique,
        "source": source,
        "type": kind,
        "datacontenttype": "application/json",
        "data": data,
    }
    if "completionTime" in data:
        event["time"] = data["completionTime"]
    return Message(unique, "application/cloudevents+json", json.dumps(event).encode())


def _source(job: Object) -> str:
    metadata = job["metadata"]
    return f"/apis/{names.API_VERSION}/namespaces/{metadata['namespace']}/{names.PLURAL}/{metadata['name']}"


def _facts(job: Object) -> Object:
    """What a receiver may want to know, by the names of the spec and the status."""
    status, metadata = job["status"], job["metadata"]
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    running = conditions.get("Running") or {}
    output, failure = status.get("output") or {}, status.get("failure") or {}
    found = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "baseModel": (job.get("spec") or {}).get("baseModel"),
        "phase": status["phase"],
        "reason": failure.get("reason") or running.get("reason"),
        "message": failure.get("message") or running.get("message"),
        "startTime": status.get("startTime"),
        "completionTime": status.get("completionTime"),
        "outputPath": output.get("path"),
        "finalLoss": output.get("finalLoss"),
        "usage": status.get("usage"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _sentence(data: Mapping[str, Any]) -> str:
    """For people: what ended how, and what it cost."""
    usage = data.get("usage") or {}
    parts = [
        data.get("message"),
        data.get("outputPath") and f"Output: {data['outputPath']}",
        usage and f"{usage['gpuHours']:.2f} GPU-hours",
        "cost" in usage and f"{usage['cost']:.2f} {usage['currency']}",
    ]
    return "\n".join([f"{data['phase']}: TrainingJob {data['namespace']}/{data['name']}", *filter(None, parts)])
