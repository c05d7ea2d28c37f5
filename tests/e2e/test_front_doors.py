"""A vision-language model trained from the form, as a person does it in a browser: on a cluster and on one machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from demo import steps
from tests.api.conftest import serving as serving_cluster
from tests.api.test_jobs import run_documented_curl
from tests.e2e.conftest import Demo
from tests.local.test_serve import serving
from tests.tiny import tiny_model
from tests.web.conftest import browser

__all__ = ["browser", "tiny_model"]

pytestmark = pytest.mark.train

MODEL = "./models/tiny-qwen2.5-vl"
DATA = "./data/vision_test_dataset.jsonl"
PATIENCE = 300_000
"""Milliseconds that a training of the tiny model may take on a busy two-core machine."""


def fill_in(page: Page, name: str, **settings: str) -> None:
    """What a person chooses in the form: the model type, a Qwen2.5-VL model, a data set, and a short training."""
    page.set_default_timeout(180_000)
    page.goto("/training/new")
    page.get_by_role("radio", name="Vision-Language (VLM)").check()
    page.get_by_label("Vision model").select_option("Another model…")
    page.get_by_role("textbox", name="Hub id or path").fill(MODEL)
    page.get_by_role("textbox", name="Data set", exact=False).first.fill(DATA)
    page.get_by_role("textbox", name="Name of the job").fill(name)
    for label, value in ({"Max steps": "40", "Logging steps": "1", "Save steps": "20"} | settings).items():
        box = page.get_by_role("textbox", name=label, exact=True, include_hidden=True)
        page.locator("details", has=box).evaluate_all("all => all.forEach((fold) => { fold.open = true; })")
        box.fill(value)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible(timeout=180_000)


def see_the_chart_move(page: Page) -> None:
    """While the job trains."""
    page.evaluate("window.loadedOnce = true")
    chart = page.get_by_role("img", name=re.compile("^Loss by step; the last one is"))
    expect(chart).to_be_visible(timeout=PATIENCE)
    first = str(chart.get_attribute("aria-label"))
    expect(chart.locator("canvas")).to_be_visible(timeout=PATIENCE)
    expect(chart).not_to_have_attribute("aria-label", first, timeout=PATIENCE)


def see_the_model(page: Page, name: str) -> None:
    """The page, which was never loaded again, ends with the output path, and the answers with their images."""
    expect(page.get_by_text("Succeeded", exact=True).first).to_be_visible(timeout=PATIENCE)
    model = page.get_by_role("region", name="Model", exact=True)
    expect(model).to_contain_text(f"models/{name}")
    expect(model).to_contain_text(re.compile("Answers to 10 .* rows, before and after training"))
    expect(model.get_by_role("img", name=re.compile("^The image of")).first).to_be_visible()
    expect(model.get_by_role("definition").filter(has_text="The shape is a square.").first).to_be_visible()
    assert page.evaluate("window.loadedOnce"), "the page was loaded again"


@pytest.mark.cluster
def test_on_a_cluster_a_person_starts_a_training_in_the_form_and_watches_it_to_its_end(
    prompt_demo: Demo, browser: Browser
) -> None:
    """Also while the API server is restarted."""
    cluster = prompt_demo.cluster
    with serving_cluster(cluster.kubeconfig) as address:
        page = browser.new_context(base_url=address).new_page()
        small = {"GPUs": "0", "CPU request": "100m", "Memory request": "256Mi"}
        long = {"Max steps": "60", "Gradient accumulation": "1"}
        fill_in(page, "from-the-form", **small, **long)
        see_the_chart_move(page)
        cluster.kill_api_server()
        cluster.up()
        see_the_model(page, "from-the-form")
        assert run_documented_curl(address)["name"] == "my-vision-model"
        cluster.kubectl("delete", "trainingjob", "my-vision-model")  # its model is not here
    status = cluster.get("trainingjob", "from-the-form")["status"]
    assert (status["phase"], status["output"]["path"]) == ("Succeeded", "./models/from-the-form")
    assert status["output"]["verified"] is True


def test_on_one_machine_a_person_starts_a_training_in_the_form_and_watches_it_to_its_end(
    tmp_path: Path, tiny_model: Callable[[str], Path], browser: Browser
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / MODEL).symlink_to(tiny_model("qwen2_5_vl"))
    shutil.copytree(steps.ROOT / "data", tmp_path / "data")
    with serving(tmp_path, "--local") as client:
        page = browser.new_context(base_url=str(client.base_url)).new_page()
        fill_in(page, "from-the-form")
        see_the_chart_move(page)
        see_the_model(page, "from-the-form")
    assert (tmp_path / "models" / "from-the-form" / "adapter_model.safetensors").exists()
