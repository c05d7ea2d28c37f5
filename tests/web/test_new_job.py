"""The form of a new job in Chromium, in front of ``model-garden serve --local``."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.api.conftest import served
from tests.cli.conftest import JOB, environment
from tests.web.conftest import BUSY

DATA = Path(__file__).parents[2] / "data"


def serving(folder: Path, **more: str) -> AbstractContextManager[str]:
    """A server of the workspace ``folder``; its address."""
    return served("--local", env=environment(HOME=str(folder), **more), folder=folder)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the project's example data."""
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(DATA, folder / "data")
    return folder


@pytest.fixture(scope="module")
def address(workspace: Path, hub: str) -> Iterator[str]:
    with serving(workspace, HF_ENDPOINT=hub) as found:
        yield found


def test_the_settings_of_a_use_case_are_taken_marked_and_reset(page: Page) -> None:
    page.goto("/training/new")
    page.get_by_role("textbox", name="Epochs").fill("5")
    page.get_by_text("Use cases: rows and settings").click()
    page.get_by_text("Invoice processing Extract").click()
    page.get_by_role("button", name="Use these settings for Invoice processing").click()
    pixels = page.get_by_role("textbox", name="Max pixels")
    expect(pixels).to_have_value("2007040")
    expect(page.get_by_label("Selective loss", exact=True)).to_have_value("conservative")
    expect(page.get_by_role("textbox", name="Epochs")).to_have_value("5")
    expect(page.locator("#preview")).to_contain_text("3 settings changed")
    page.get_by_label("Use the default for Max pixels").click()
    expect(page.locator("#preview")).to_contain_text("2 settings changed")
    page.get_by_role("button", name="Reset all settings").click()
    expect(page.locator("#preview")).to_contain_text("All settings are defaults")
    expect(page.get_by_role("button", name="Reset all settings")).to_be_hidden()


def test_what_is_typed_survives_a_refresh_and_a_copied_link(page: Page) -> None:
    page.goto("/training/new?rerun=")
    page.get_by_role("textbox", name="Data set").fill("./data/receipts.jsonl")
    page.get_by_role("textbox", name="Learning rate").fill("1e-6")
    page.get_by_label("Text-only (LLM)").check()
    expect(page.get_by_label("Text model")).to_be_visible()
    link = page.url
    page.reload()
    expect(page.get_by_label("Text-only (LLM)")).to_be_checked()
    expect(page.get_by_role("textbox", name="Learning rate")).to_have_value("1e-6")
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_role("textbox", name="Data set")).to_have_value("./data/receipts.jsonl")


def test_what_is_chosen_while_the_form_is_drawn_again_stays(page: Page) -> None:
    page.goto("/training/new")
    memory = page.locator("#estimate")
    expect(memory).to_contain_text("GiB")
    of_vision = memory.inner_text()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/training/new", hold)
    with page.expect_request("**/training/new"):
        page.get_by_label("Text-only (LLM)").check()
    page.get_by_role("radio", name="Upload").check()
    page.get_by_role("textbox", name="Epochs").fill("9")
    page.get_by_role("textbox", name="Data set").fill("./data/text_test_dataset.jsonl")
    page.locator("#upload-files").focus()
    held[0].continue_()
    expect(page.get_by_label("Text model")).to_be_visible()
    expect(page.get_by_role("radio", name="Upload")).to_be_checked()
    expect(page.locator("#upload-files")).to_be_focused()
    expect(page.get_by_role("textbox", name="Epochs")).to_have_value("9")
    expect(page.get_by_role("textbox", name="Data set")).to_have_value("./data/text_test_dataset.jsonl")
    expect(page.locator("#check")).to_contain_text("Every row can be trained on")
    expect(page.locator("#preview")).to_contain_text("in 9 epochs")
    expect(page.locator("#preview")).to_contain_text(re.compile(r"Data\s*\d+ rows"))
    expect(memory).not_to_have_text(of_vision, use_inner_text=True)
    of_text = memory.inner_text()
    page.unroute("**/training/new")
    page.get_by_label("Vision-Language (VLM)").check()
    expect(memory).not_to_have_text(of_text, use_inner_text=True)


def test_a_choice_right_after_the_form_was_drawn_again_is_followed(page: Page) -> None:
    page.goto("/training/new?model_type=text")
    method = page.get_by_label("Training method", exact=True)
    expect(method).to_be_visible()
    page.evaluate("""document.addEventListener("htmx:afterSwap", (event) => {
      const method = document.getElementById("field-method");
      if (event.target.id === "form-fields" && method.value === "dpo") setTimeout(() => {
        method.value = "grpo";
        method.dispatchEvent(new Event("change", { bubbles: true }));
      });
    })""")
    method.select_option("dpo")
    expect(page.locator("#field-rewards-functions")).to_have_count(1)
    expect(page.locator("#field-dpo-beta")).to_have_count(0)


def test_the_last_of_two_quick_choices_is_the_one_that_the_form_shows(page: Page) -> None:
    page.goto("/training/new?model_type=text")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/training/new", hold, times=1)
    method = page.get_by_label("Training method", exact=True)
    with page.expect_request("**/training/new"):
        method.select_option("dpo")
    method.select_option("grpo")
    held[0].continue_()
    expect(page.locator("#field-rewards-functions")).to_have_count(1)
    expect(page.locator("#field-dpo-beta")).to_have_count(0)


def test_the_settings_and_rows_of_a_training_method_follow_its_choice(page: Page) -> None:
    page.goto("/training/new?model_type=text")
    page.get_by_label("Training method", exact=True).select_option("dpo")
    expect(page.locator("#field-dpo-beta")).to_have_attribute("placeholder", "0.1")
    expect(page.get_by_role("textbox", name="Learning rate", exact=True)).to_have_attribute("placeholder", "5e-6")
    expect(page.locator("#example-first")).to_contain_text("rejected")
    page.get_by_label("Training method", exact=True).select_option("grpo")
    expect(page.locator("#field-rewards-functions")).to_have_count(1)
    expect(page.locator("#field-dpo-beta")).to_have_count(0)


def test_a_link_with_a_field_that_is_unknown_says_so(page: Page) -> None:
    page.goto("/training/new?learning_rate=1&hyperparameters.num_epochs=7")
    expect(page.get_by_text("The link gives learning_rate, which is no field of the form.")).to_be_visible()
    expect(page.get_by_role("textbox", name="Epochs")).to_have_value("7")


def test_a_file_that_is_chosen_or_dropped_fills_the_form(page: Page, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB + "  podTemplate: {nodeSelector: {gpu: a100}}\n")
    page.goto("/training/new")
    page.locator("#job-file-pick").set_input_files(tmp_path / "job.yaml")
    expect(page.get_by_role("textbox", name="Name of the job")).to_have_value("receipts")
    expect(page.get_by_role("textbox", name="YAML", exact=True)).to_have_value(re.compile("node_selector"))
    expect(page).to_have_url(re.compile(r"/training/new\?.*name=receipts"))  # so that a refresh keeps it
    dropped = page.evaluate_handle(
        "text => { const data = new DataTransfer(); data.items.add(new File([text], 'job.yml')); return data; }",
        JOB.replace("receipts", "dropped"),
    )
    page.dispatch_event("main", "drop", {"dataTransfer": dropped})
    expect(page.get_by_role("textbox", name="Name of the job")).to_have_value("dropped")


def test_a_file_with_a_mistake_is_refused_by_field_and_line(page: Page) -> None:
    page.goto("/training/new")
    page.get_by_text("Fill from YAML").click()
    page.get_by_label("A TrainingJob as YAML or JSON").fill(JOB.replace("2e-5", "fast"))
    page.get_by_role("button", name="Fill the form").click()
    expect(page.get_by_role("alert")).to_contain_text("YAML:10: spec.hyperparameters.learningRate")
    expect(page.get_by_label("A TrainingJob as YAML or JSON")).to_have_value(re.compile("fast"))


def test_rows_are_shown_with_images_and_the_run_card_counts_their_steps(page: Page) -> None:
    page.goto("/training/new?quantization=16bit")
    expect(page.locator("#preview").get_by_role("button", name="Choose a data set")).to_be_visible()
    page.get_by_role("button", name="vision_test_dataset.jsonl").click()
    first = page.get_by_role("article", name="Row 1")
    image = first.get_by_role("img")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 224
    expect(first.locator("mark")).to_have_text("A medium green circle at the top center, on a white background.")
    expect(page.locator("#check")).to_contain_text("Every row can be trained on")
    expect(page.locator("#estimate")).to_contain_text("Download: 7.0 GiB")
    expect(page.locator("#estimate")).to_contain_text(re.compile(r"Disk for the output folder: at most [\d.]+ GiB"))
    expect(page.locator("#estimate")).to_contain_text(re.compile(r"To save memory\s+Quantization 4bit"))
    card = page.locator("#preview")
    expect(card).to_contain_text("10 rows")
    expect(card).to_contain_text("6 in 3 epochs")  # 10 rows are 2 steps of 8 rows at most
    expect(card.get_by_role("button", name="Start training")).to_be_visible()
    page.get_by_role("button", name="Next rows").click()
    expect(page.get_by_role("article", name="Row 4")).to_be_visible()
    page.get_by_label("Text-only (LLM)").check()
    expect(page.locator("#check")).to_contain_text("the job trains a text model")


def test_a_data_set_that_is_named_right_after_another_was_read_is_shown(page: Page) -> None:
    page.goto("/training/new?model_type=text")
    page.evaluate("""document.addEventListener("htmx:afterSwap", () => {
      if (document.querySelector("#check [data-checking]")) fill("dataset_path", "./data/absent.jsonl");
    })""")
    page.get_by_role("textbox", name="Data set").fill("./data/text_test_dataset.jsonl")
    page.get_by_role("textbox", name="Epochs").focus()
    expect(page.locator("#rows > [role=alert]")).to_contain_text("there is no ./data/absent.jsonl")


def test_a_broken_row_is_named_with_its_image_and_the_job_is_not_created(page: Page, workspace: Path) -> None:
    rows = [json.loads(line) for line in (DATA / "vision_test_dataset.jsonl").read_text().splitlines()]
    rows[2]["response"] = ""
    path = workspace / "data" / "broken.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page.goto("/training/new?dataset_path=./data/broken.jsonl&name=broken")
    broken = page.locator("#check").get_by_role("article", name="Row 3")
    expect(broken).to_contain_text('./data/broken.jsonl row 3: "response" is empty; fill it in or remove the row')
    expect(broken.get_by_role("img")).to_be_visible()
    with page.expect_response("**/training/new/check"):  # the page checks the rows once more by itself
        page.locator("#preview").get_by_role("button", name="Fix 1 broken row").click()
    expect(page.get_by_role("alert").first).to_contain_text("The job was not created")
    expect(page.locator(BUSY)).to_have_count(0)
    expect(page.locator("#check").get_by_role("article", name="Row 3")).to_contain_text("is empty")
    rows[2]["response"] = "A circle."
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page.get_by_role("button", name="Check again").click()
    expect(page.locator("#preview").get_by_role("button", name="Start training")).to_be_visible()


OWN = '{"question": "2+2?", "solution": "4"}\n'


def test_suggested_columns_are_put_into_the_form_and_read(page: Page, workspace: Path) -> None:
    (workspace / "data/own.jsonl").write_text(OWN)
    page.goto("/training/new?model_type=text&dataset_path=./data/own.jsonl")
    check = page.locator("#check")
    expect(check).to_contain_text("Read these columns: question as prompt, solution as response.")
    check.get_by_role("button", name="Use these columns").click()
    expect(page.get_by_role("textbox", name="Prompt column", exact=True)).to_have_value("question")
    expect(page.get_by_role("textbox", name="Response column")).to_be_visible()
    expect(check).to_contain_text("Every row can be trained on")
    expect(page.get_by_role("article", name="Row 1").locator("mark")).to_have_text("4")
    expect(page.locator("#as-yaml")).to_contain_text("prompt: question")
    expect(page.locator("#dataset_path")).to_be_focused()


@pytest.mark.parametrize("ends", ["on the button", "elsewhere"])
def test_rows_that_are_read_again_during_a_press_are_shown_when_it_ends(page: Page, workspace: Path, ends: str) -> None:
    (workspace / "data/pressed.jsonl").write_text(OWN)
    page.goto("/training/new?model_type=text&dataset_path=./data/pressed.jsonl")
    button = page.locator("#check").get_by_role("button", name="Use these columns")
    expect(button).to_be_visible()
    expect(page.locator(BUSY)).to_have_count(0)  # nothing moves the button any more
    button.hover()
    page.mouse.down()
    if ends == "elsewhere":
        (workspace / "data/pressed.jsonl").write_text('{"prompt": "2+2?", "completion": "4"}\n')
    with page.expect_response("**/training/new/rows"):
        page.locator("#dataset_path").dispatch_event("change")
    expect(page.locator(BUSY)).to_have_count(0)
    if ends == "elsewhere":
        page.mouse.move(0, 0)
    page.mouse.up()
    expect(page.locator("#check")).to_contain_text("Every row can be trained on")
    column = page.get_by_role("textbox", name="Prompt column", exact=True, include_hidden=True)
    expect(column).to_have_value("question" if ends == "on the button" else "")


def test_suggested_columns_are_read_without_javascript(browser: Browser, address: str, workspace: Path) -> None:
    (workspace / "data/own.jsonl").write_text(OWN)
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/training/new?model_type=text&dataset_path=./data/own.jsonl")
    page.get_by_role("button", name="Show and check the rows").click()
    page.get_by_role("button", name="Use these columns").click()
    expect(page.locator("#check")).to_contain_text("Every row can be trained on")
    expect(page.get_by_role("textbox", name="Response column")).to_have_value("solution")
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_state_of_the_form_has_an_accessibility_violation(
    browser: Browser, address: str, workspace: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    """By axe-core; its script is injected past the pages' policy, which allows none but their own."""
    rows = (DATA / "vision_test_dataset.jsonl").read_text().replace("0002.png", "gone.png")
    (workspace / "data" / "gone.jsonl").write_text(rows)
    context = browser.new_context(
        base_url=address, color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True
    )
    page = context.new_page()
    for query, seen in (
        ("dataset_path=./data/vision_test_dataset.jsonl&use_case=invoices", "Every row can be trained on"),
        ("dataset_path=./data/gone.jsonl", "1 problem"),
        ("source=upload", "Drop a data file"),
        ("source=bucket&hyperparameters.optim=sgd&more=a", "Credentials come from a Secret"),
    ):
        page.goto(f"/training/new?{query}")
        expect(page.get_by_text(seen).first).to_be_visible()
        page.evaluate((Path(__file__).parent / "axe-4.14.1.min.js").read_text())
        found = page.evaluate("axe.run()")["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == [], query
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing makes a phone scroll sideways"
    context.close()


def test_data_elsewhere_and_data_that_is_not_there_are_said(page: Page) -> None:
    page.goto("/training/new?dataset_path=hf://datasets/a/b")
    expect(page.get_by_label("Hugging Face Hub")).to_be_checked()
    expect(page.locator("#rows")).to_contain_text("The preflight checks all rows")
    page.get_by_role("textbox", name="Data set").fill("./data/absent.jsonl")
    page.get_by_role("textbox", name="Epochs").focus()
    expect(page.locator("#rows")).to_contain_text("there is no ./data/absent.jsonl")


def test_the_form_works_without_javascript(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/training/new?use_case=tables")
    expect(page.get_by_role("textbox", name="Longest row")).to_have_value("8192")
    page.get_by_label("Use the default for Longest row").click()
    expect(page.locator("[name='hyperparameters.max_seq_length']")).to_have_value("")
    page.get_by_role("button", name="Reset all settings").click()
    expect(page.locator("[name='image_options.max_pixels']")).to_have_value("")
    page.get_by_text("Fill from YAML").click()
    page.get_by_label("A TrainingJob as YAML or JSON").fill(JOB)
    page.get_by_role("button", name="Fill the form").click()
    expect(page.get_by_role("textbox", name="Name of the job")).to_have_value("receipts")
    page.get_by_role("button", name="List the data sets").click()
    page.get_by_role("button", name="vision_test_dataset.jsonl").click()
    expect(page.get_by_role("article", name="Row 1").get_by_role("img")).to_be_visible()
    expect(page.locator("#check")).to_contain_text("Every row can be trained on")
    expect(page.get_by_role("textbox", name="Name of the job")).to_have_value("receipts")
    context.close()
