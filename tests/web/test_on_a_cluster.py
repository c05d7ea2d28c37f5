"""Pages and what a cluster does to them: rights that are missing, an API server that restarts, hundreds of jobs, data
that only pods can read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.conftest import NAMESPACE, serving, token
from tests.api.test_live import watches
from tests.controller.harness import CLAIMS, OperatorHarness
from tests.web.test_upload import folder

__all__ = ["folder"]

pytestmark = pytest.mark.cluster

MANY = 500


def test_who_may_not_create_jobs_reads_which_right_is_missing_and_loses_no_input(
    browser: Browser, public: str, harness: OperatorHarness
) -> None:
    harness.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    secret = token(harness.cluster, "watcher", "get", "list", "watch")
    context = browser.new_context(base_url=public)
    page = context.new_page()
    page.goto("/login")
    page.get_by_label("Token").fill(secret)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="No training jobs yet")).to_be_visible()
    page.goto("/training/new")
    page.get_by_role("radio", name="Vision-Language (VLM)").check()
    typed = {"Data set": "./data/rows.jsonl", "Name of the job": "mine", "Learning rate": "3e-5"}
    for label, value in typed.items():
        page.get_by_role("textbox", name=label).fill(value)
    page.get_by_role("button", name="Start training").click()
    refusal = page.get_by_role("alert").filter(has_text="The job was not created")
    expect(refusal).to_contain_text("The job was not created")
    expect(refusal).to_contain_text('cannot create resource "trainingjobs" in API group "model-garden.dev"')
    expect(refusal).to_contain_text(f'in the namespace "{NAMESPACE}"; an administrator can grant this right')
    for label, value in typed.items():
        expect(page.get_by_role("textbox", name=label)).to_have_value(value)
    expect(page.get_by_role("radio", name="Vision-Language (VLM)")).to_be_checked()
    context.close()


def test_a_live_page_goes_on_after_the_api_server_restarted(
    browser: Browser, address: str, harness: OperatorHarness
) -> None:
    harness.submit("steady", {"STEPS": 150, "STEP_SECONDS": 0.2})
    harness.until_step("steady", 3)
    context = browser.new_context(base_url=address)
    page = context.new_page()
    page.goto("/training/steady")
    page.evaluate("window.loadedOnce = true")
    harness.cluster.kill_api_server()
    harness.cluster.up()
    expect(page.get_by_text("Succeeded", exact=True).first).to_be_visible()
    expect(page.get_by_text("./models/steady").first).to_be_visible()
    assert page.evaluate("window.loadedOnce"), "the page was loaded again"
    context.close()


def test_a_page_that_is_opened_while_the_api_server_is_away_comes_back_by_itself(
    page: Page, harness: OperatorHarness
) -> None:
    harness.submit("late", suspend=True)
    harness.until("late", "Suspended")
    harness.cluster.kill_api_server()
    page.goto("/training/late")
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    harness.cluster.up()
    expect(page.get_by_role("heading", name="late")).to_be_visible()


def test_pages_of_jobs_and_of_the_list_share_one_watch(
    browser: Browser, address: str, harness: OperatorHarness
) -> None:
    harness.submit("shared", suspend=True)
    harness.until("shared", "Suspended")
    before = watches(harness.cluster)
    context = browser.new_context(base_url=address)
    pages = [context.new_page() for _ in range(4)]
    for page in pages[:2]:
        page.goto("/training?search=shared")
    for page in pages[2:]:
        page.goto("/training/shared")
    harness.patch("trainingjob", "shared", {"metadata": {"annotations": {"model-garden.dev/cancel": "true"}}})
    for page in pages[:2]:
        expect(page.get_by_role("row", name=re.compile("shared"))).to_contain_text("Cancelled")
    for page in pages[2:]:
        expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible()
    assert watches(harness.cluster) <= before + 1
    context.close()


def test_five_hundred_jobs_are_searched_and_filtered(page: Page, address: str, harness: OperatorHarness) -> None:
    body = {"base_model": "tiny/model", "dataset_path": "./data/rows.jsonl", "suspend": True, "labels": {"many": "yes"}}
    with httpx.Client(base_url=address, timeout=60) as client, ThreadPoolExecutor(10) as pool:
        bodies = [body | {"name": f"many-{number:03}"} for number in range(MANY)]
        answers = pool.map(lambda one: client.post("/api/v1/training/jobs", json=one).status_code, bodies)
        assert set(answers) == {201}
    try:
        page.goto("/training?search=many-4")
        rows = page.get_by_role("row", name=re.compile("many-"))
        expect(rows).to_have_count(100)
        page.get_by_role("searchbox").fill("many-499")
        expect(rows).to_have_count(1)
        page.get_by_label("Phase").select_option("Succeeded")
        expect(page.get_by_text("No job matches")).to_be_visible()
    finally:
        path = f"/apis/model-garden.dev/v1alpha1/namespaces/{harness.namespace}/trainingjobs"
        # A busy server answers that its time is over, and deletes the rest when it is asked again.
        delete = ("delete", "--raw", f"{path}?labelSelector=many%3Dyes")
        harness.cluster.until(lambda: harness.cluster.try_kubectl(*delete).returncode == 0, seconds=240)


@pytest.fixture
def with_claims(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that reads and writes the claims of the tests' namespace; its address."""
    for kind in ("DATA", "MODELS"):
        monkeypatch.setenv(f"MODEL_GARDEN_{kind}_CLAIM", CLAIMS[kind])
    with serving(kubeconfig) as found:
        yield found


def upload(page: Page, folder: Path, *, broken: bool = False) -> None:
    """Upload a folder in the form."""
    page.goto("/training/new")
    page.get_by_role("radio", name="Upload").check()
    page.locator("#upload-folder").set_input_files(folder)
    page.get_by_label("Store it even if rows are broken").set_checked(broken)
    page.get_by_role("button", name="Upload", exact=True).click()


def test_data_on_a_claim_is_uploaded_listed_shown_and_checked_through_a_pod(
    browser: Browser, with_claims: str, harness: OperatorHarness, folder: Path
) -> None:
    context = browser.new_context(base_url=with_claims)
    page = context.new_page()
    upload(page, folder)
    dataset = page.get_by_role("textbox", name="Data set")
    expect(dataset).to_have_value("./data/shapes/rows.jsonl")
    (claim,) = (harness.cluster.directory / "volumes").glob(f"{harness.namespace}-{CLAIMS['DATA']}-*")
    assert sorted(claim.rglob("shapes/images/*.png")) and list(claim.rglob("shapes/rows.jsonl"))

    page.goto("/training/new")  # as another person on another day
    page.get_by_role("button", name="List the data sets").click()
    page.get_by_role("button", name="shapes").click()
    image = page.get_by_role("article", name="Row 1").get_by_role("img")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 224
    expect(page.locator("#check")).to_contain_text("Every row can be trained on")
    expect(page.locator("#preview")).to_contain_text("10 rows")

    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    rows[2]["response"] = ""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    damaged = folder.rename(folder.with_name("damaged"))
    upload(page, damaged)
    expect(page.locator("#upload-problems")).to_contain_text("row 3")
    assert not list(claim.rglob("damaged*")), "nothing of it is stored"
    upload(page, damaged, broken=True)
    third = page.locator("#check").get_by_role("article", name="Row 3")
    expect(third).to_contain_text('./data/damaged/rows.jsonl row 3: "response" is empty')
    assert third.get_by_role("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 224
    page.locator("#preview").get_by_role("button", name="Fix 1 broken row").click()
    expect(page.get_by_role("alert").first).to_contain_text("The job was not created")
    assert harness.get("trainingjob", "damaged") is None
    context.close()
