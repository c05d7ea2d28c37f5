"""The webhook of a namespace, told by a real operator of jobs that end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.controller.harness import OperatorHarness
from tests.monitoring.conftest import start
from tests.monitoring.receiver import Posted, Receiver, receiver

pytestmark = pytest.mark.cluster


@pytest.fixture
def webhook(garden: OperatorHarness) -> Iterator[Receiver]:
    """A receiver that the Secret of the namespace names."""
    with receiver() as server:
        set_webhook(garden, url=f"{server.url}/hook")
        yield server
        garden.kubectl("delete", "secret", "model-garden-webhook")


def set_webhook(garden: OperatorHarness, **values: str) -> None:
    metadata = {"name": "model-garden-webhook", "namespace": garden.namespace}
    garden.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})


def told_of(server: Receiver, name: str) -> list[Posted]:
    return [one for one in server.at("/hook") if name in one.body.decode()]


def command(garden: OperatorHarness, *arguments: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "model_garden.cli", "webhook", "test", "-n", garden.namespace, *arguments]
    environment = os.environ | {"KUBECONFIG": str(garden.kubeconfig)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def test_the_end_of_a_job_is_told_once_also_if_the_operator_restarts(
    garden: OperatorHarness, webhook: Receiver, collector: Receiver
) -> None:
    webhook.answers = [503]  # which is tried again
    garden.submit("told", {"STEPS": 1})
    garden.until("told", "Succeeded")
    garden.cluster.until(lambda: len(told_of(webhook, "told")) == 2)
    first, second = told_of(webhook, "told")
    assert first.body == second.body
    assert (
        first.headers["webhook-id"]
        == second.headers["webhook-id"]
        == garden.get("trainingjob", "told")["metadata"]["uid"]
    )
    event = json.loads(second.body)
    assert event["type"] == "dev.model-garden.trainingjob.succeeded"
    assert event["data"]["outputPath"] == "models/told"
    assert event["data"]["completionTime"] == garden.status("told")["completionTime"]

    garden.stop_operator()
    start(garden, collector)
    garden.submit("later", {"STEPS": 1, "EXIT_CODE": 3})
    garden.cluster.until(lambda: told_of(webhook, "later"))
    assert json.loads(told_of(webhook, "later")[0].body)["data"]["reason"] == "InvalidDataset"
    assert len(told_of(webhook, "told")) == 2, "no end is told again after a restart"


def test_a_namespace_chooses_format_and_events(garden: OperatorHarness, webhook: Receiver) -> None:
    set_webhook(garden, url=f"{webhook.url}/hook", format="slack", events="Failed")
    garden.submit("quiet", {"STEPS": 1})
    garden.submit("loud", {"STEPS": 1, "EXIT_CODE": 3})
    garden.until("quiet", "Succeeded")
    garden.cluster.until(lambda: told_of(webhook, "loud"))
    assert json.loads(told_of(webhook, "loud")[0].body)["text"].startswith("Failed: TrainingJob watched/loud\n")
    assert told_of(webhook, "quiet") == []


def test_a_webhook_that_refuses_is_a_warning_and_the_job_succeeds(garden: OperatorHarness, webhook: Receiver) -> None:
    webhook.answers = [404]
    garden.submit("unheard", {"STEPS": 1})
    garden.until("unheard", "Succeeded")
    events = garden.cluster.until(
        lambda: "WebhookFailed" in dict(garden.events("unheard")) and garden.events("unheard")
    )
    words = "the Secret model-garden-webhook: its url answered with HTTP status 404"
    assert dict(events)["WebhookFailed"] == words
    assert webhook.url not in garden.log.read_text()


def test_the_command_tries_the_webhook(garden: OperatorHarness, webhook: Receiver) -> None:
    done = command(garden, "--allow-local-addresses")
    assert (done.returncode, done.stderr) == (
        0,
        "the webhook of the namespace watched took a test message; it is told of Succeeded, Failed, Cancelled\n",
    )
    assert json.loads(webhook.at("/hook")[0].body)["type"] == "dev.model-garden.trainingjob.test"
    refused = command(garden)
    assert refused.returncode == 1
    assert "its url leads to a loopback" in refused.stderr
    assert len(webhook.at("/hook")) == 1


def test_the_command_says_how_to_make_the_secret(garden: OperatorHarness) -> None:
    done = command(garden)
    assert done.returncode == 1
    assert "kubectl create secret generic model-garden-webhook --namespace watched --from-literal=url=" in done.stderr
