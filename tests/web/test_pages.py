"""A person's way through the pages, in Chromium, in front of a real API server with a real operator."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.conftest import NAMESPACE, serving, token
from tests.controller.harness import OperatorHarness
from tests.web.conftest import form_token

pytestmark = pytest.mark.cluster

SCRIPT = "<script>document.title='owned'</script>"


def start_job(page: Page, name: str) -> None:
    """Fill in the form for a small job without a GPU and send it."""
    page.goto("/training/new")
    page.get_by_label("Vision-Language (VLM)").check()
    page.get_by_label("Vision model").select_option("Qwen/Qwen2.5-VL-3B-Instruct")
    page.get_by_role("textbox", name="Data set").fill("./data/rows.jsonl")
    page.get_by_role("textbox", name="Name of the job").fill(name)
    page.get_by_role("textbox", name="GPUs").fill("0")
    page.locator("summary", has_text="Resources").click()
    page.get_by_role("textbox", name="CPU request").fill("10m")
    page.get_by_role("textbox", name="Memory request").fill("16Mi")
    page.get_by_role("button", name="Start training").click()


def test_a_vision_job_is_started_in_the_form_and_watched_to_its_end(page: Page, harness: OperatorHarness) -> None:
    start_job(page, "receipts")
    expect(page).to_have_url(re.compile("/training/receipts$"))
    expect(page.get_by_role("heading", name="receipts")).to_be_visible()
    expect(page.locator(".badge").first).to_have_text("Succeeded")  # by itself: the page is not loaded again
    expect(page.locator("#output-path")).to_contain_text("models/receipts")
    expect(page.locator(".main-chart canvas")).to_be_visible()
    spec = harness.get("trainingjob", "receipts")["spec"]
    assert (spec["modelType"], spec["baseModel"]) == ("vision", "Qwen/Qwen2.5-VL-3B-Instruct")
    assert "hyperparameters" not in spec, "what the form left empty is not set in the job"
    page.goto("/training")
    expect(page.get_by_role("row", name=re.compile("receipts"))).to_contain_text("Succeeded")


def test_defaults_follow_the_type_and_the_size_of_the_model(page: Page) -> None:
    page.goto("/training/new")
    rate, batch = page.get_by_role("textbox", name="Learning rate"), page.get_by_role("textbox", name="Batch size")
    accumulation = page.get_by_role("textbox", name="Gradient accumulation")
    expect(page.get_by_label("Vision-Language (VLM)")).to_be_checked()
    expect(page.locator("#vision-notice")).to_be_visible()
    expect(rate).to_have_attribute("placeholder", "2e-5")
    expect(batch).to_have_attribute("placeholder", "1")
    expect(accumulation).to_have_attribute("placeholder", "8")
    page.get_by_label("Text-only (LLM)").check()
    expect(rate).to_have_attribute("placeholder", "2e-4")
    expect(page.locator("#vision-notice")).to_have_count(0)
    rate.fill("5e-5")
    page.get_by_label("Vision-Language (VLM)").check()
    page.get_by_label("Vision model").select_option("Qwen/Qwen2.5-VL-72B-Instruct")
    expect(accumulation).to_have_attribute("placeholder", "16")
    expect(rate).to_have_value("5e-5")
    expect(page.locator("#preview")).to_contain_text("1 setting changed from the default")
    page.get_by_label("Use the default for Learning rate: 1e-5").click()
    expect(page.locator("#preview")).to_contain_text("All settings are defaults")
    expect(page.locator("#preview")).to_contain_text("Choose a data set")


def test_a_wrong_value_is_shown_at_its_field_and_nothing_is_created(page: Page, harness: OperatorHarness) -> None:
    page.goto("/training/new")
    page.get_by_role("textbox", name="Data set").fill("./data/rows.jsonl")
    page.get_by_role("textbox", name="Name of the job").fill("wrong")
    page.get_by_role("textbox", name="Learning rate").fill("fast")
    page.locator("#preview").get_by_role("button", name="Fix the values above").click()
    field = page.locator(".field", has=page.get_by_role("textbox", name="Learning rate"))
    expect(field.locator(".problem")).to_contain_text("'fast'")
    expect(page.get_by_role("textbox", name="Data set")).to_have_value("./data/rows.jsonl")
    assert harness.get("trainingjob", "wrong") is None


def test_the_form_shows_the_same_job_in_four_spellings_and_its_memory(page: Page) -> None:
    page.goto("/training/new")
    page.get_by_role("textbox", name="Data set").fill("./data/receipts.jsonl")
    expect(page.locator("#as-yaml")).to_contain_text("datasetPath: ./data/receipts.jsonl")
    page.get_by_role("textbox", name="Epochs").fill("2")
    expect(page.locator("#as-yaml")).to_contain_text("numEpochs: 2")
    expect(page.locator("#as-curl")).to_contain_text("/api/v1/training/jobs")
    expect(page.locator("#as-command")).to_contain_text("--epochs 2")
    expect(page.locator("#as-python")).to_contain_text("'num_epochs': 2")
    expect(page.locator("#estimate")).to_contain_text("GiB")
    expect(page.locator("#estimate")).to_contain_text("GPUs of this cluster")


def test_a_job_that_is_deleted_and_a_server_that_restarts_are_seen_on_the_page(
    browser: Browser, kubeconfig: Path, harness: OperatorHarness
) -> None:
    harness.submit("watched", suspend=True)
    context = browser.new_context()
    page = context.new_page()
    with serving(kubeconfig) as first:
        page.goto(f"{first}/training/watched")
        expect(page.locator(".badge").first).to_have_text("Suspended")
    with serving(kubeconfig, "--port", first.rpartition(":")[2]):  # the last --port counts
        harness.patch("trainingjob", "watched", {"metadata": {"annotations": {"model-garden.dev/cancel": "true"}}})
        expect(page.locator(".badge").first).to_have_text("Cancelled")
    context.close()


def test_the_list_is_live(page: Page, harness: OperatorHarness) -> None:
    page.goto("/training?search=newcomer")
    harness.submit("newcomer", suspend=True)
    expect(page.get_by_role("row", name=re.compile("newcomer"))).to_contain_text("Suspended")
    page.get_by_role("searchbox").fill("nothing-like-it")
    expect(page.get_by_text("No job matches")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_an_accessibility_violation(
    browser: Browser, address: str, harness: OperatorHarness, scheme: Literal["light", "dark"]
) -> None:
    """By axe-core; its script is injected past the pages' policy, which allows none but their own."""
    harness.submit("axe", {"EXIT_CODE": 3, "FAIL_AT_STEP": 3})
    harness.until("axe", "Failed")
    context = browser.new_context(base_url=address, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    for path in (
        "/training",
        "/training/new?more=a&hyperparameters.optim=sgd",
        "/training/axe",
        "/training/axe/logs",
        "/training/axe/again",
    ):
        page.goto(path)
        page.evaluate((Path(__file__).parent / "axe-4.14.1.min.js").read_text())
        violations = page.evaluate("axe.run()")["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in violations] == [], path
        width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], f"{path} scrolls sideways"
    context.close()


def test_a_public_server_asks_for_a_token_and_keeps_it_to_itself(
    browser: Browser, public: str, harness: OperatorHarness
) -> None:
    harness.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    secret = token(harness.cluster, "page-reader", "get", "list", "watch")
    context = browser.new_context(base_url=public)
    page = context.new_page()
    answer = page.goto("/training")
    assert answer and answer.status == 401
    page.get_by_label("Token").fill("not-a-token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not accept these credentials")
    page.get_by_label("Token").fill(secret)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="No training jobs yet")).to_be_visible()
    assert secret not in page.content() + json.dumps(context.cookies()) + page.url
    page.goto("/training/new")
    page.get_by_role("textbox", name="Data set").fill("./data/rows.jsonl")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("alert").filter(has_text="cannot create resource")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    answer = page.goto("/training")
    assert answer and answer.status == 401
    context.close()


def test_a_running_job_is_stopped_from_its_page_and_keeps_its_model(page: Page, harness: OperatorHarness) -> None:
    harness.submit("long", {"STEPS": 100_000, "STEP_SECONDS": 0.2})
    harness.until_step("long", 2)
    page.goto("/training/long")
    page.get_by_role("link", name="Stop…").click()
    choices = page.get_by_role("dialog", name="Stop long?")
    expect(choices).to_contain_text("The model is saved")
    expect(choices).to_contain_text("No model is saved")
    page.get_by_role("link", name="Go on").click()
    expect(choices).to_be_hidden()
    page.get_by_role("link", name="Stop…").click()
    page.get_by_role("button", name="Stop and keep").click()
    expect(page.locator(".badge").first).to_have_text("Succeeded")
    expect(page.locator("#output-path")).to_be_visible()


def test_a_failed_job_shows_why_and_is_rerun_with_changes(page: Page, harness: OperatorHarness) -> None:
    harness.submit("broken", {"EXIT_CODE": 3, "FAIL_AT_STEP": 3})
    harness.until("broken", "Failed")
    page.goto("/training/broken")
    failure = page.get_by_role("region", name="Failure")
    expect(failure).to_contain_text("InvalidDataset")
    expect(failure).to_contain_text("it was asked to fail")
    expect(failure).to_contain_text("Fix the listed rows")
    page.get_by_text("Text for a report").click()
    expect(failure.locator("#report")).to_contain_text("TrainingJob pages/broken")
    page.get_by_role("link", name="Run again with changes").click()
    expect(page.locator("#dataset_path")).to_have_value("./data/rows.jsonl")
    expect(page.get_by_role("textbox", name="YAML")).to_have_value(re.compile("pod_template"))


def test_pages_work_without_javascript(browser: Browser, address: str, harness: OperatorHarness) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    start_job(page, "plain")
    expect(page).to_have_url(re.compile("/training/plain$"))
    harness.until("plain", "Succeeded")
    page.reload()
    expect(page.locator("#output-path")).to_contain_text("models/plain")
    page.get_by_role("link", name="Run again…").click()
    page.get_by_label("Change one field").select_option("hyperparameters.learningRate")
    page.get_by_label("Values").fill("1e-5, 2e-5")
    page.get_by_role("button", name="Show the jobs").click()
    expect(page.get_by_text("plain-3")).to_be_visible()
    page.goto("/training/plain")
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete the job").click()
    expect(page).to_have_url(re.compile("/training$"))
    harness.cluster.until(lambda: harness.get("trainingjob", "plain") is None)
    context.close()


def test_script_in_the_data_of_a_job_is_text(page: Page, harness: OperatorHarness) -> None:
    harness.submit("escaped", outputDir=f"./models/{SCRIPT}", datasetPath=f"./data/{SCRIPT}", suspend=True)
    for path in ("/training", "/training/escaped", f"/training/new?dataset_path={SCRIPT}&name={SCRIPT}"):
        page.goto(path)
        assert page.title() != "owned"
    page.goto("/training/escaped")
    expect(page.get_by_role("region", name="Job")).to_contain_text(SCRIPT)


def test_a_form_without_a_csrf_token_is_refused(address: str, harness: OperatorHarness) -> None:
    harness.submit("kept", suspend=True)
    body = {"base_model": "a/b", "dataset_path": "./data/rows.jsonl", "name": "forged"}
    with httpx.Client(base_url=address) as client:
        token = form_token(client.get("/training/new").text)
        for fields in (body, body | {"csrf_token": "x"}):
            assert client.post("/training/new", data=fields).status_code == 403
        assert client.post("/training/kept/delete", data={"csrf_token": ""}).status_code == 403
        elsewhere = {"Origin": "http://attacker.example"}
        assert client.post("/training/new", data=body | {"csrf_token": token}, headers=elsewhere).status_code == 403
    assert harness.get("trainingjob", "forged") is None
    assert harness.get("trainingjob", "kept") is not None


def test_pages_allow_no_script_but_their_own_files(address: str) -> None:
    answer = httpx.get(address + "/training/new")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy
    assert re.findall(r'(?:src|href)="(https?:)?//', answer.text) == []
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
