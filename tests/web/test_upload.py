"""The upload of data in the form of a new job, in Chromium, in front of ``model-garden serve --local``."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web.conftest import form_token
from tests.web.test_new_job import DATA, OWN, address, workspace

__all__ = ["address", "workspace"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a data file and the images of its rows."""
    shutil.copytree(DATA / "vision_test_dataset_images", tmp_path / "shapes" / "images")
    rows = (DATA / "vision_test_dataset.jsonl").read_text().replace("vision_test_dataset_images/", "images/")
    (tmp_path / "shapes" / "rows.jsonl").write_text(rows)
    return tmp_path / "shapes"


def test_a_folder_is_uploaded_and_then_chosen(page: Page, workspace: Path, folder: Path) -> None:
    page.goto("/training/new")
    page.get_by_role("radio", name="Upload").check()
    page.locator("#upload-folder").set_input_files(folder)
    expect(page.locator("#upload-chosen")).to_contain_text("11 files")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("textbox", name="Data set")).to_have_value("./data/shapes/rows.jsonl")
    expect(page.get_by_role("button", name="shapes")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("article", name="Row 1").get_by_role("img")).to_be_visible()
    assert len(list((workspace / "data" / "shapes" / "images").iterdir())) == 10


def test_what_is_to_be_uploaded_stays_while_the_model_type_changes(page: Page, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text('{"prompt": "2+2?", "completion": "4"}\n')
    page.goto("/training/new")
    page.get_by_role("radio", name="Upload").check()
    page.locator("#upload-files").set_input_files(tmp_path / "sums.jsonl")
    page.get_by_label("Store as").fill("kept")
    page.get_by_label("Store it even if rows are broken").check()
    page.get_by_label("Text-only (LLM)").check()
    expect(page.get_by_label("Text model")).to_be_visible()
    expect(page.locator("#upload-chosen")).to_contain_text("1 file,")
    expect(page.get_by_label("Store it even if rows are broken")).to_be_checked()
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("textbox", name="Data set")).to_have_value("./data/kept/sums.jsonl")
    assert (workspace / "data/kept/sums.jsonl").is_file()


def test_problems_of_an_upload_go_when_the_form_reads_rows_otherwise(page: Page, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("{}\n")
    page.goto("/training/new")
    page.get_by_role("radio", name="Upload").check()
    page.locator("#upload-files").set_input_files(tmp_path / "empty.jsonl")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator("#upload-problems")).to_contain_text("row 1")
    page.get_by_label("Text-only (LLM)").check()
    expect(page.get_by_label("Text model")).to_be_visible()
    expect(page.locator("#upload-problems")).to_be_hidden()


def test_broken_rows_are_named_before_they_are_stored(page: Page, workspace: Path, folder: Path) -> None:
    (folder / "images" / "0003.png").unlink()
    page.goto("/training/new")
    page.get_by_role("radio", name="Upload").check()
    page.locator("#upload-folder").set_input_files(folder)
    page.get_by_label("Store as").fill("damaged")
    page.get_by_role("button", name="Upload").click()
    problem = page.locator("#upload-problems")
    expect(problem).to_contain_text("row 3")
    expect(problem).to_contain_text("images/0003.png")
    assert not (workspace / "data" / "damaged").exists()
    page.get_by_label("Store it even if rows are broken").check()
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#check").get_by_role("article", name="Row 3")).to_contain_text("cannot be shown")


def test_a_data_set_with_own_columns_is_uploaded_with_the_suggested_ones(
    page: Page, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "quiz.jsonl").write_text(OWN)
    page.goto("/training/new?model_type=text")
    page.get_by_role("radio", name="Upload").check()
    page.locator("#upload-files").set_input_files(tmp_path / "quiz.jsonl")
    page.get_by_role("button", name="Upload", exact=True).click()
    problem = page.locator("#upload-problems")
    expect(problem).to_contain_text("Read these columns: question as prompt, solution as response.")
    assert not (workspace / "data/quiz").exists()
    problem.get_by_role("button", name="Use these columns and upload again").click()
    expect(page.locator("#dataset_path")).to_have_value("./data/quiz/quiz.jsonl")
    expect(page.locator("#check")).to_contain_text("Every row can be trained on")


def test_files_are_uploaded_without_javascript(browser: Browser, address: str, folder: Path) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/training/new?source=upload")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("no file")
    page.locator("#upload-files").set_input_files(DATA / "text_test_dataset.jsonl")
    page.get_by_role("button", name="Upload").click()
    path = "./data/text_test_dataset/text_test_dataset.jsonl"
    expect(page.get_by_role("textbox", name="Data set")).to_have_value(path)
    context.close()


def test_files_that_another_page_sends_are_refused(address: str, workspace: Path) -> None:
    files = {"files": ("forged.jsonl", b'{"text": "a"}\n')}
    with httpx.Client(base_url=address) as client:
        token = form_token(client.get("/training/new").text)
        for fields, headers in (({}, {}), ({"csrf_token": "x"}, {}), ({"csrf_token": token}, {"Origin": "http://a.b"})):
            sent = {**fields, "keep_invalid": "true"}
            assert client.post("/training/new/upload", data=sent, files=files, headers=headers).status_code == 403
        assert not (workspace / "data" / "forged").exists()
        sent = {"csrf_token": token}
        assert client.post("/training/new/upload", data=sent, files=files).status_code == 303
    assert (workspace / "data" / "forged" / "forged.jsonl").exists()
