"""Every page with the keyboard alone, in Chromium: no test here moves or presses a mouse."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.conftest import NAMESPACE, token
from tests.controller.harness import OperatorHarness
from tests.web.conftest import BUSY
from tests.web.keyboard import FOCUSED, has_focus, press, stops, tab_to, write
from tests.web.test_job_page import ROUTE, Submit, home, page, submit, succeeded

__all__ = ["home", "page", "submit"]

DATA = Path(__file__).parents[2] / "data"


def check_stops(page: Page) -> None:
    """The focus passes every control in the order of the page, is seen at each, and goes back the same way."""
    there = stops(page)
    assert there[0]["what"].startswith('<a class="skip"')
    assert [one["what"] for one in there if not one["ring"]] == [], "no ring shows the focus"
    assert [one["what"] for one in there if not one["uncovered"]] == [], "the focus is off the screen or covered"
    pairs = [(one, then) for one, then in pairwise(there) if not one["beside"]]
    assert [(one["what"], then["what"]) for one, then in pairs if above(then["box"], one["box"])] == []
    back = [one["place"] for one in reversed(stops(page, "Shift+Tab"))]
    assert back == [one["place"] for one in there]


def above(one: list[float], other: list[float]) -> bool:
    """Whether a box ends above another's begin in the same column."""
    return one[3] <= other[1] and one[0] < other[2] and other[0] < one[2]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_focus_is_seen_at_every_control_and_follows_the_page(page: Page, submit: Submit, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    good, failing, held = (f"{name}-{width}" for name in ("good", "failing", "held"))
    submit(good)
    submit(failing)
    submit(held, suspend=True)
    succeeded(page, good)
    page.goto(f"/training/{failing}")
    expect(page.locator(".badge").first).to_have_text("Failed")
    for path in (
        "/training",
        "/training/new",
        "/training/new?source=upload&use_case=invoices&more=a",
        "/training/new?source=bucket&hyperparameters.optim=sgd",
        f"/training/{good}",
        f"/training/{good}/answers",
        f"/training/{good}/logs",
        f"/training/{good}/delete",
        f"/training/{good}/again",
        f"/training/{failing}",
        f"/training/{held}/stop",
    ):
        page.goto(path)
        expect(page.locator(BUSY)).to_have_count(0)  # what it asks for by itself is there
        check_stops(page)


def test_the_skip_link_leads_past_the_navigation(page: Page) -> None:
    page.goto("/training")
    page.keyboard.press("Tab")
    assert has_focus(page.get_by_role("link", name="Skip to content"))
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert has_focus(page.get_by_role("main").get_by_role("link", name="New training job"))


@pytest.mark.cluster
def test_a_person_logs_in_and_out(browser: Browser, public: str, harness: OperatorHarness) -> None:
    harness.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    secret = token(harness.cluster, "typist", "get", "list", "watch")
    context = browser.new_context(base_url=public)
    page = context.new_page()
    page.goto("/training")
    assert has_focus(page.get_by_label("Token"))
    page.keyboard.type("not-a-token")
    press(page, page.get_by_role("button", name="Log in"))
    expect(page.get_by_role("alert")).to_contain_text("does not accept these credentials")
    assert [one["what"] for one in stops(page) if not one["ring"] or not one["uncovered"]] == []
    write(page, page.get_by_label("Token"), secret)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No training jobs yet")).to_be_visible()
    press(page, page.get_by_role("button", name="Log out"))
    expect(page.get_by_label("Token")).to_be_visible()
    context.close()


def test_a_job_is_searched_filtered_and_opened(page: Page, submit: Submit) -> None:
    for name in ("apple", "pear"):
        submit(f"listed-{name}", suspend=True)
    page.goto("/training")
    rows = page.get_by_role("row", name=re.compile("^listed-"))
    write(page, page.get_by_role("searchbox"), "listed")
    expect(rows).to_have_count(2)
    tab_to(page, page.get_by_label("Phase"))
    page.keyboard.type("Succ")
    expect(page.get_by_text("No job matches")).to_be_visible()
    page.keyboard.press("Home")
    expect(rows).to_have_count(2)
    apple = page.get_by_role("link", name="listed-apple")
    tab_to(page, apple)
    submit("listed-melon", suspend=True)  # the list is drawn again, with a new first row
    expect(rows).to_have_count(3)
    assert has_focus(apple)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="listed-apple")).to_be_visible()
    page.goto("/training?search=listed&most=1")
    expect(rows).to_have_count(1)
    press(page, page.get_by_role("link", name="Show more"))
    expect(rows).to_have_count(3)


def test_a_data_set_is_uploaded_chosen_and_trained_on(page: Page, home: httpx.Client) -> None:
    page.goto("/training/new")
    tab_to(page, page.get_by_label("Vision-Language (VLM)"))
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label("Text model")).to_be_visible()
    expect(page.get_by_label("Text-only (LLM)")).to_be_focused()  # the form was drawn again
    tab_to(page, page.get_by_label("Text model"))
    first = page.get_by_label("Text model").input_value()
    with page.expect_response("**/training/new"):
        page.keyboard.press("ArrowDown")
    expect(page.locator(BUSY)).to_have_count(0)
    expect(page.get_by_label("Text model")).not_to_have_value(first)
    expect(page.get_by_label("Text model")).to_be_focused()

    tab_to(page, page.get_by_role("radio", name="Workspace"))
    page.keyboard.press("ArrowRight")
    upload = page.get_by_role("button", name="Upload", exact=True)
    press(page, upload)
    expect(page.locator("#upload-problems")).to_contain_text("Choose at least one file")
    tab_to(page, page.locator("#upload-files"), "Shift+Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(DATA / "text_test_dataset.jsonl")
    press(page, upload)
    path = "./data/text_test_dataset/text_test_dataset.jsonl"
    dataset = page.get_by_role("textbox", name="Data set")
    expect(dataset).to_have_value(path)
    expect(dataset).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    choice = page.get_by_role("button", name="text_test_dataset")
    tab_to(page, choice, "Shift+Tab")
    page.keyboard.press("Space")
    expect(choice).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(FOCUSED)["ring"]
    expect(page.get_by_role("article", name="Row 1")).to_be_visible()
    expect(page.locator("#check")).to_contain_text("Every row can be trained on")
    following = page.get_by_role("button", name="Next rows")
    press(page, following)
    expect(page.get_by_role("article", name="Row 4")).to_be_visible()
    expect(following).to_be_focused()

    write(page, page.get_by_role("textbox", name="Learning rate"), "3e-5")
    press(page, page.get_by_role("button", name="Use the default for Learning rate"), "Space")
    page.keyboard.press("Shift+Tab")
    rate = page.get_by_role("textbox", name="Learning rate")
    expect(rate).to_have_value("")
    write(page, page.get_by_role("textbox", name="Epochs"), "2")
    press(page, page.get_by_role("button", name="Reset all settings"))
    epochs = page.get_by_role("textbox", name="Epochs")
    expect(epochs).to_have_value("")
    expect(epochs).to_be_focused()
    write(page, page.get_by_role("textbox", name="Name of the job"), "typed")
    fold = page.locator("summary").filter(has_text="Schedule")
    press(page, fold, "Space")
    write(page, page.get_by_role("textbox", name="Max steps"), "8")
    press(page, page.locator("summary").filter(has_text="curl"))
    expect(page.locator("#as-curl")).to_contain_text('"max_steps": 8')
    tab_to(page, page.get_by_role("button", name="Start training").last, "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".badge").first).to_have_text("Succeeded")
    spec = home.get(f"{ROUTE}/typed").json()
    assert (spec["dataset_path"], spec["hyperparameters"]) == (path, {"max_steps": 8})


def test_a_live_job_is_read_and_stopped(page: Page, submit: Submit) -> None:
    submit("stopped", 100_000)
    page.goto("/training/stopped")
    chart = page.get_by_role("img", name=re.compile("^Loss by step"))
    expect(chart.locator("canvas")).to_be_visible()
    tab_to(page, chart)
    page.keyboard.press("Home")
    step = chart.get_by_role("cell").first
    expect(step).to_have_text("1")
    page.keyboard.press("ArrowRight")
    expect(step).not_to_have_text("1")
    tab_to(page, page.get_by_label("Logarithmic"), "Shift+Tab")
    page.keyboard.press("Space")
    expect(page.get_by_label("Logarithmic")).to_be_checked()
    fold = page.locator("summary").filter(has_text="The figures as a table")
    press(page, fold)
    rows = page.get_by_role("region", name="Figures by step").locator("tbody tr")
    newest = rows.last.locator("td").first
    expect(newest).not_to_have_text(newest.inner_text())
    expect(fold).to_be_focused()
    page.keyboard.press("Space")
    expect(rows.first).to_be_hidden()

    log = page.get_by_label("Lines of the log")
    tab_to(page, log)
    first = log.element_handle()
    page.wait_for_function("node => !node.isConnected", arg=first)  # the log is drawn again
    expect(log).to_be_focused()

    stop = page.get_by_role("link", name="Stop…")
    tab_to(page, stop, "Shift+Tab")
    page.keyboard.press("Enter")
    choices = page.get_by_role("dialog", name="Stop stopped?")
    expect(choices).to_contain_text("The model is saved")
    expect(choices).to_contain_text("No model is saved")
    for _ in range(8):  # the page behind the dialog is out of reach
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('body, dialog, dialog *')")
    page.keyboard.press("Escape")
    expect(choices).to_be_hidden()
    expect(stop).to_be_focused()
    page.keyboard.press("Enter")
    expect(choices).to_be_visible()
    stop.evaluate("link => link.replaceWith(link.cloneNode(true))")  # as the page draws it again below the dialog
    press(page, choices.get_by_role("link", name="Go on"))
    expect(choices).to_be_hidden()
    expect(stop).to_be_focused()
    page.keyboard.press("Enter")
    expect(choices).to_be_visible()
    press(page, choices.get_by_role("button", name="Stop and keep the model"))
    expect(page.locator(".badge").first).to_have_text("Succeeded")


def test_a_model_is_read_copied_and_downloaded_and_its_job_runs_again(
    page: Page, home: httpx.Client, submit: Submit
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    submit("read")
    succeeded(page, "read")
    answers = page.get_by_role("region", name="Answers")
    expect(answers).to_be_visible()
    with page.expect_download():
        press(page, page.get_by_role("link", name="Download").first)
    tab_to(page, answers)
    copy = page.get_by_role("region", name="Model").get_by_role("button", name="Copy").first
    press(page, copy)
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#text-transformers").text_content()
    press(page, page.locator("summary").filter(has_text="vLLM"))
    expect(page.locator("#text-vllm")).to_be_visible()

    press(page, page.get_by_role("link", name="Open and search"))
    write(page, page.get_by_role("searchbox"), "checkpoint at")
    expect(page.locator("#lines pre")).to_have_text("Checkpoint at step 5")
    press(page, page.get_by_role("link", name="read"))

    press(page, page.get_by_role("link", name="Run again…"))
    tab_to(page, page.get_by_label("Change one field"))
    page.keyboard.type("hyperparameters.learn")
    write(page, page.get_by_label("Values"), "1e-5, 3e-5")
    start = page.get_by_role("button", name="Start 2 jobs")
    expect(start).to_be_visible()
    press(page, start)
    expect(page.get_by_role("row", name=re.compile("^read-2 "))).to_be_visible()
    rates = [home.get(f"{ROUTE}/read-{n}").json()["hyperparameters"]["learning_rate"] for n in (2, 3)]
    assert rates == [1e-05, 3e-05]
    succeeded(page, "read-2")
    press(page, page.get_by_role("link", name="Delete…"))
    press(page, page.get_by_role("button", name="Delete the job"))
    expect(page).to_have_url(re.compile("/training$"))
    assert [home.get(f"{ROUTE}/read-{number}").status_code for number in (2, 3)] == [404, 200]
    home.delete(f"{ROUTE}/read-3")
