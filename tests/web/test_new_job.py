"""The form of a new job in Chromium, in front of ``model-garden serve --local``."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.cli.conftest import COMMAND, JOB, environment
from tests.web.conftest import PATIENCE

expect.set_options(timeout=PATIENCE)
DATA = Path(__file__).parents[2] / "data"


@contextmanager
def serving(folder: Path, **more: str) -> Iterator[str]:
    """A server of the workspace ``folder``; its address."""
    process = subprocess.Popen(
        [COMMAND, "serve", "--local", "--port", "0"],
        cwd=folder,
        env=environment(HOME=str(folder), **more),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        said = process.stdout.readline()
        assert "http://" in said, "the server did not start"
        yield "http://127.0.0.1:" + said.rsplit(":", 1)[1].split("/")[0]
    finally:
        process.terminate()
        process.wait()
        assert process.stdout
        process.stdout.close()


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
    context.close()
