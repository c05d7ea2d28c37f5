"""A person's way through the pages, in Chromium, in front of a real API server with a real operator."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.controller.harness import OperatorHarness
from tests.web.conftest import PATIENCE

pytestmark = pytest.mark.cluster
expect.set_options(timeout=PATIENCE)

SCRIPT = "<script>document.title='owned'</script>"


def start_job(page: Page, name: str) -> None:
    """Fill in the form for a small job without a GPU and send it."""
    page.goto("/training/new")
    page.get_by_label("Vision-Language (VLM)").check()
    page.get_by_label("Vision model").select_option("Qwen/Qwen2.5-VL-3B-Instruct")
    page.get_by_role("textbox", name="Data set").fill("./data/rows.jsonl")
    page.get_by_role("textbox", name="Name of the job").fill(name)
    page.get_by_text("Advanced settings").click()
    page.get_by_role("textbox", name="GPUs").fill("0")
    page.get_by_role("textbox", name="CPU request").fill("10m")
    page.get_by_role("textbox", name="Memory request").fill("16Mi")
    page.get_by_role("button", name="Start training").click()


def test_a_vision_job_is_started_in_the_form_and_watched_to_its_end(page: Page, harness: OperatorHarness) -> None:
    start_job(page, "receipts")
    expect(page).to_have_url(re.compile("/training/receipts$"))
    expect(page.get_by_role("heading", name="receipts")).to_be_visible()
    expect(page.locator(".badge").first).to_have_text("Succeeded")  # by itself: the page is not loaded again
    expect(page.locator("#output-path")).to_contain_text("models/receipts")
    expect(page.locator(".chart canvas")).to_be_visible()
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
    page.get_by_label("Use the default for Learning rate").click()
    expect(page.locator("#preview")).to_contain_text("All settings are defaults")
    expect(page.locator("#preview")).to_contain_text("Choose a data set to start")


def test_a_wrong_value_is_shown_at_its_field_and_nothing_is_created(page: Page, harness: OperatorHarness) -> None:
    page.goto("/training/new")
    page.get_by_role("textbox", name="Data set").fill("./data/rows.jsonl")
    page.get_by_role("textbox", name="Name of the job").fill("wrong")
    page.get_by_role("textbox", name="Learning rate").fill("fast")
    page.get_by_role("button", name="Start training").click()
    field = page.locator(".field", has=page.get_by_role("textbox", name="Learning rate"))
    expect(field.locator(".problem")).to_contain_text("'fast'")
    expect(page.get_by_role("textbox", name="Data set")).to_have_value("./data/rows.jsonl")
    assert harness.get("trainingjob", "wrong") is None


def test_a_running_job_is_stopped_from_its_page_and_keeps_its_model(page: Page, harness: OperatorHarness) -> None:
    harness.submit("long", {"STEPS": 100_000, "STEP_SECONDS": 0.2})
    harness.until_step("long", 2)
    page.goto("/training/long")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Stop and keep").click()
    expect(page.locator(".badge").first).to_have_text("Succeeded")
    expect(page.locator("#output-path")).to_be_visible()


def test_a_failed_job_shows_why_and_is_rerun_with_changes(page: Page, harness: OperatorHarness) -> None:
    harness.submit("broken", {"EXIT_CODE": 3, "FAIL_AT_STEP": 3})
    harness.until("broken", "Failed")
    page.goto("/training/broken")
    failure = page.get_by_role("region", name="Failure")
    expect(failure).to_contain_text("InvalidDataset")
    expect(failure).to_contain_text("it was told to fail")
    expect(failure).to_contain_text("Fix the listed rows")
    page.get_by_role("link", name="Rerun with changes").click()
    expect(page.get_by_role("textbox", name="Data set")).to_have_value("./data/rows.jsonl")
    expect(page.get_by_role("textbox", name="YAML")).to_have_value(re.compile("pod_template"))


def test_pages_work_without_javascript(browser: Browser, address: str, harness: OperatorHarness) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    start_job(page, "plain")
    expect(page).to_have_url(re.compile("/training/plain$"))
    harness.until("plain", "Succeeded")
    page.reload()
    expect(page.locator("#output-path")).to_contain_text("models/plain")
    page.get_by_role("button", name="Delete").click()
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
        assert client.get("/training/new").status_code == 200  # sets the cookie
        for fields in (body, body | {"csrf_token": "x"}):
            assert client.post("/training/new", data=fields).status_code == 403
        assert client.post("/training/kept/delete", data={"csrf_token": ""}).status_code == 403
        token = client.cookies["model-garden-csrf"]
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
