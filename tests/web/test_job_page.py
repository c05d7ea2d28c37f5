"""The page of a job in Chromium, served without a cluster: the real runner, and a trainer that is a script."""

from __future__ import annotations

import asyncio
import io
import re
import socket
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Route, expect

from model_garden.api.access import LocalAccess
from model_garden.api.app import create_app
from model_garden.local import process
from model_garden.local.home import local_home
from model_garden.web.app import add_pages
from tests.web.conftest import BUSY, REPLACED, new_page

ROUTE = "/api/v1/training/jobs"
RUN = "**/training/new/preview"
TRAINER = Path(__file__).parent / "page_trainer.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server with its runner, in a thread of their own."""
    workspace = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listener:
        patch.setattr(process, "COMMAND", (sys.executable, str(TRAINER)))
        ended = Event()
        thread = Thread(target=lambda: asyncio.run(_serve(workspace, listener, ended)), daemon=True)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
            yield client
        ended.set()
        thread.join()
    for folder in (workspace / ".model-garden" / "runs").glob("*"):
        for attempt in process.attempts(folder):
            attempt.kill()


async def _serve(workspace: Path, listener: socket.socket, ended: Event) -> None:
    with local_home(workspace) as home:
        running = asyncio.create_task(home.runner.run())
        app = add_pages(create_app(LocalAccess(home.cluster, workspace)))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.to_thread(ended.wait)
        server.should_exit = True
        await serving
        running.cancel()


Submit = Callable[..., None]


@pytest.fixture
def submit(home: httpx.Client) -> Iterator[Submit]:
    """Create a job of so many steps; what still runs at the end of a test is canceled."""
    names: list[str] = []

    def create(name: str, steps: int = 8, **spec: Any) -> None:
        body = {"base_model": "a/b", "dataset_path": "./data/rows.jsonl", "hyperparameters": {"max_steps": steps}}
        assert home.post(ROUTE, json=body | {"name": name} | spec).status_code == 201
        names.append(name)

    yield create
    for name in names:
        home.delete(f"{ROUTE}/{name}")


@pytest.fixture
def page(browser: Browser, home: httpx.Client, submit: Submit) -> Iterator[Page]:
    """A page that is closed before the jobs of ``submit`` are deleted, which it may be asking for."""
    with new_page(browser, str(home.base_url), REPLACED) as page:
        yield page


def succeeded(page: Page, name: str) -> None:
    page.goto(f"/training/{name}")
    expect(page.locator(".badge").first).to_have_text("Succeeded")


def test_a_job_is_watched_until_its_answers_and_its_model_is_downloaded(page: Page, submit: Submit) -> None:
    submit("shapes", 30)
    succeeded(page, "shapes")  # by itself: the page is not loaded again
    answer = page.locator(".answer").first
    expect(answer).to_contain_text("What is <b>it</b>?")
    expect(answer).to_contain_text("a circle")
    image = answer.get_by_role("img").element_handle()
    assert image and image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
    expect(page.locator("#warnings")).to_contain_text("row 7 is cut")
    expect(page.locator("#step-time")).to_contain_text("25.0%")
    expect(page.locator("#stages")).to_contain_text("Verifying")
    scores = page.get_by_role("region", name="Scores", exact=True)
    expect(scores.get_by_role("row", name="JSON fields: F1")).to_contain_text("38.2%95.7%")
    page.get_by_text("Accuracy of each JSON field").click()
    expect(page.get_by_role("row", name="total.amount")).to_contain_text("10.0%90.0%")
    expect(page.locator("#text-vllm")).to_contain_text("--lora-modules shapes=./models/shapes")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").first.click()
    assert any(name.endswith("adapter_config.json") for name in members(download.value.path()))


def test_the_log_of_an_ended_job_is_asked_for_once_more_and_no_longer(page: Page, submit: Submit) -> None:
    """The answer tells htmx to stop."""
    submit("quiet", 200)
    page.goto("/training/quiet")
    with page.expect_response(lambda answer: answer.url.endswith("/quiet/logs") and answer.status == 286):
        expect(page.locator(".badge").first).to_have_text("Succeeded")
    expect(page.locator("#log")).to_contain_text("a line for people")


def test_the_figures_of_a_training_method_have_charts_and_a_table(page: Page, submit: Submit) -> None:
    submit("prefers", 30)
    succeeded(page, "prefers")
    page.goto("/training/prefers")
    expect(page.locator("[data-series='rewards/margins'] canvas")).to_be_visible()
    page.get_by_text("Latest figures of the training method").click()
    table = page.get_by_role("region", name="Latest figures of the training method")
    expect(table.get_by_role("row", name="rewards/margins")).to_contain_text("3")
    page.evaluate((Path(__file__).parent / "axe-4.14.1.min.js").read_text())
    found = page.evaluate("axe.run()")["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []


def members(tar: Path) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar.read_bytes())) as found:
        return found.getnames()


def test_what_a_person_opened_on_a_live_page_stays_open(page: Page, submit: Submit) -> None:
    submit("opened", 100_000)
    page.goto("/training/opened")
    page.get_by_text("The figures as a table").click()
    rows = page.get_by_role("region", name="Figures by step").locator("tbody tr")
    chart = page.locator(".main-chart canvas").element_handle()
    newest = rows.last.locator("td").first
    expect(newest).not_to_have_text(newest.inner_text())
    expect(page.locator("#stages [aria-current=step]")).to_contain_text("Training")
    assert chart and chart.evaluate("node => node.isConnected"), "the chart is not drawn anew"


def test_a_failed_job_says_why_and_is_varied(page: Page, home: httpx.Client, submit: Submit) -> None:
    submit("failing")
    page.goto("/training/failing")
    failure = page.get_by_role("region", name="Failure")
    expect(failure).to_contain_text("InvalidDataset")
    expect(failure).to_contain_text("Fix the listed rows")
    page.get_by_text("Text for a report").click()
    expect(failure.locator("#report")).to_contain_text("TrainingJob default/failing")
    expect(failure.locator("#report")).to_contain_text("Traceback: scripted failure")
    failure.get_by_role("link", name="Run again…").click()
    page.get_by_label("Change one field").select_option("hyperparameters.learningRate")
    page.get_by_label("Values").fill("fast")
    expect(page.locator("#planned")).to_contain_text("spec.hyperparameters.learningRate")
    page.get_by_label("Values").fill("1e-5, 3e-5")
    expect(page.locator("#planned")).to_contain_text("failing-3")
    page.get_by_role("button", name="Start 2 jobs").click()
    expect(page.get_by_role("row", name=re.compile("^failing-2 "))).to_be_visible()
    rates = [home.get(f"{ROUTE}/failing-{n}").json()["hyperparameters"]["learning_rate"] for n in (2, 3)]
    assert rates == [1e-05, 3e-05]
    for number in (2, 3):
        home.delete(f"{ROUTE}/failing-{number}")


def test_jobs_are_started_by_a_press_right_after_their_values_are_typed(
    page: Page, home: httpx.Client, submit: Submit
) -> None:
    submit("varied", suspend=True)
    page.goto("/training/varied/again?field=hyperparameters.learningRate")
    page.get_by_label("Values").press_sequentially("1e-5, 3e-5")
    start = page.get_by_role("button", name="Start 2 jobs")
    start.hover()
    page.mouse.down()  # what was typed loses the focus
    expect(page.locator(BUSY)).to_have_count(0)
    page.mouse.up()
    expect(page.get_by_role("row", name=re.compile("^varied-2 "))).to_be_visible()
    for number in (2, 3):
        home.delete(f"{ROUTE}/varied-{number}")


def open_form(page: Page, query: str) -> None:
    """The form, once all that it asks for by itself is there."""
    with page.expect_response(RUN):
        page.goto(f"/training/new?{query}")
    expect(page.locator(BUSY)).to_have_count(0)


def test_a_run_that_is_read_again_during_a_press_is_shown_when_it_ends(page: Page) -> None:
    open_form(page, "dataset_path=./data/rows.jsonl")
    page.locator("#start").hover()
    page.mouse.down()
    with page.expect_response(RUN):
        page.evaluate("fill('field-hyperparameters-num_epochs', '2')")  # of the page; it moves no focus
    expect(page.locator(BUSY)).to_have_count(0)
    page.mouse.move(0, 0)
    page.mouse.up()
    expect(page.locator("#preview")).to_contain_text("2 epochs")


@pytest.mark.parametrize("device", ["mouse", "keyboard"])
def test_a_job_is_started_by_a_press_during_which_its_run_is_read_again(
    page: Page, home: httpx.Client, device: str
) -> None:
    name = f"pressed-with-{device}"
    open_form(page, f"dataset_path=./data/rows.jsonl&name={name}")
    start = page.locator("#start")
    with page.expect_response(RUN):
        page.get_by_role("textbox", name="Epochs").press_sequentially("2")
    if device == "mouse":
        start.hover()
        with page.expect_response(RUN):
            page.mouse.down()  # what was typed loses the focus
    else:
        with page.expect_response(RUN):
            start.focus()
        expect(page.locator(BUSY)).to_have_count(0)
        expect(start).to_be_focused()
        page.keyboard.down("Space")
        with page.expect_response(RUN):
            page.locator("#new-job").dispatch_event("checked")  # as the end of the check of the rows does
    expect(page.locator(BUSY)).to_have_count(0)
    page.mouse.up() if device == "mouse" else page.keyboard.up("Space")
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    home.delete(f"{ROUTE}/{name}")


def test_another_job_is_laid_over_and_stays_after_a_refresh(page: Page, submit: Submit) -> None:
    submit("first")
    succeeded(page, "first")
    submit("second")
    succeeded(page, "second")
    page.get_by_label("Compare with").select_option("first")
    expect(page.locator(".key.other")).to_have_text("first")
    expect(page).to_have_url(re.compile("compare=first"))
    page.get_by_label("Logarithmic").check()
    page.reload()
    expect(page.locator(".key.other")).to_have_text("first")
    expect(page.get_by_label("Compare with")).to_have_value("first")
    expect(page.get_by_label("Logarithmic")).to_be_checked()


def test_the_curve_that_was_chosen_last_is_laid_over(page: Page, submit: Submit) -> None:
    for name in ("slow", "quick", "shown"):
        submit(name)
        succeeded(page, name)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/slow/curve*", hold)
    compare = page.get_by_label("Compare with")
    with page.expect_request("**/slow/curve*"):
        compare.select_option("slow")
    compare.select_option("quick")
    expect(page).to_have_url(re.compile("compare=quick"))
    with page.expect_response("**/slow/curve*") as late:
        held[0].continue_()
    late.value.finished()
    page.evaluate("fetch('/healthz')")  # by its answer, the page has read the one before
    expect(page).to_have_url(re.compile("compare=quick"))
    expect(page.locator(".key.other")).to_have_text("quick")
    assert page.evaluate("compared.curve") == page.evaluate("fetch('quick/curve').then((answer) => answer.json())")


def test_a_page_that_is_live_again_no_longer_says_that_it_is_not(
    browser: Browser, home: httpx.Client, submit: Submit
) -> None:
    submit("restored", 100_000)
    trouble = "retry: 100\nevent: trouble\ndata: <p>The page is not live.</p>\n\n"
    headers = {"Content-Type": "text/event-stream"}
    with new_page(browser, str(home.base_url), f"{REPLACED}|object Event") as page:  # htmx logs a stream that ends
        page.route("**/restored/live", lambda route: route.fulfill(body=trouble, headers=headers), times=1)
        with page.expect_response("**/restored/live"):
            page.goto("/training/restored")
        expect(page.locator(".badge").first).to_have_text("Running")
        expect(page.locator("#trouble")).to_have_text("")


def test_a_logarithmic_axis_begins_at_any_loss(page: Page, submit: Submit) -> None:
    submit("tenths")
    succeeded(page, "tenths")
    page.get_by_label("Logarithmic").check()
    for low in (0.0110497, 0.9, 1.0, 3e-7, 0.0):
        page.evaluate(
            """low => {
              const place = document.querySelector("[data-curve]");
              const curve = JSON.parse(place.dataset.curve);
              curve.loss = curve.loss.map((_, at) => (at === 1 ? low : 4));
              place.dataset.curve = JSON.stringify(curve);
              redraw();
            }""",
            low,
        )
        expect(page.locator(".main-chart canvas")).to_be_visible()


def test_the_log_is_shown_searched_and_downloaded(page: Page, submit: Submit) -> None:
    submit("logged")
    succeeded(page, "logged")
    page.goto("/training/logged/logs")
    expect(page.locator("#lines")).to_contain_text("a line for people")
    page.get_by_role("searchbox").fill("checkpoint at")
    expect(page.locator("#lines pre")).to_have_text("Checkpoint at step 5")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert "a line for people" in download.value.path().read_text()


def test_a_job_that_is_deleted_elsewhere_says_so(page: Page, home: httpx.Client, submit: Submit) -> None:
    submit("gone", suspend=True)
    page.goto("/training/gone")
    expect(page.locator(".badge").first).to_have_text("Suspended")
    assert home.delete(f"{ROUTE}/gone").status_code == 204
    expect(page.locator("#live")).to_contain_text("The job gone was deleted.")
    expect(page.get_by_role("link", name="All training jobs")).to_be_visible()


def test_pages_show_the_state_and_ask_without_javascript(browser: Browser, home: httpx.Client, submit: Submit) -> None:
    submit("plain", 100_000)
    context = browser.new_context(base_url=str(home.base_url), java_script_enabled=False)
    page = context.new_page()
    page.goto("/training/plain")
    while page.get_by_text("No step has been reported yet.").count():
        page.reload()
    expect(page.locator("#stages [aria-current=step]")).to_contain_text("Training")
    page.get_by_role("link", name="Stop…").click()
    page.get_by_role("button", name="Stop and keep the model").click()
    expect(page).to_have_url(re.compile("/training/plain$"))
    while page.locator(".badge").first.text_content() != "Succeeded":
        page.reload()
    page.get_by_role("link", name="Show the answers").click()
    expect(page.locator(".answer").first).to_contain_text("a circle")
    context.close()


def test_a_job_named_new_has_a_page(page: Page, submit: Submit) -> None:
    submit("new", suspend=True)
    page.goto("/training?search=new")
    page.get_by_role("link", name="new", exact=True).click()
    expect(page.get_by_role("heading", name="new")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".badge").first).to_have_text("Succeeded")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_state_of_a_job_has_an_accessibility_violation(
    browser: Browser, home: httpx.Client, submit: Submit, scheme: Literal["light", "dark"]
) -> None:
    """By axe-core; its script is injected past the pages' policy, which allows none but their own."""
    names = (f"failing-{scheme}", f"good-{scheme}", f"long-{scheme}")
    context = browser.new_context(base_url=str(home.base_url), color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    for name, steps, phase in zip(names, (8, 8, 100_000), ("Failed", "Succeeded", "Running"), strict=True):
        submit(name, steps)
        page.goto(f"/training/{name}")
        expect(page.locator(".badge").first).to_have_text(phase)
    failed, good, running = (f"/training/{name}" for name in names)
    for path in (failed, good, running, f"{good}/answers", f"{good}/logs", f"{running}/stop", f"{failed}/again"):
        page.set_viewport_size({"width": 390 if scheme == "dark" else 1280, "height": 900})
        page.goto(path)
        page.evaluate((Path(__file__).parent / "axe-4.14.1.min.js").read_text())
        violations = page.evaluate("axe.run()")["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in violations] == [], path
        width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], f"{path} scrolls sideways"
    context.close()
