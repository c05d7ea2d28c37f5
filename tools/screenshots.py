"""Takes the screenshots of docs/images: every page in light and dark colors, and on a phone.

    python -m tools.screenshots [--only NAME]

It serves a workspace with example jobs, which no trainer runs, and opens its pages in Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from playwright.async_api import Browser, async_playwright

from model_garden.api.access import LocalAccess
from model_garden.api.app import create_app
from model_garden.local.home import FOLDER, local_home
from model_garden.local.store import LocalStore
from model_garden.web.app import add_pages
from tools.example_jobs import example_jobs, example_log
from tools.generate import ROOT

IMAGES = ROOT / "docs" / "images"
PAGES = {
    "list": "/training",
    "new": "/training/new?model_type=vision&dataset_path=./data/vision_test_dataset.jsonl",
    "job": "/training/receipts",
    "done": "/training/shapes",
    "failed": "/training/contracts",
    "log": "/training/receipts/logs",
    "stop": "/training/receipts/stop",
    "again": "/training/contracts/again?field=hyperparameters.learningRate&values=1e-5, 2e-5, 5e-5",
}
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True},
}
SETTLED = """() => performance.now() > 1000 && !document.querySelector(".htmx-request")"""
"""The parts that a page loads when it is open are there."""
COLORS = 200
"""A page has few colors: a palette makes its file a third as large."""


async def take(only: str | None, target: Path) -> None:
    """Take the screenshots, all of them or those of one page."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        shutil.copytree(ROOT / "data", workspace / "data")
        seed(workspace)
        with local_home(workspace) as home, socket.create_server(("127.0.0.1", 0)) as listener:
            app = add_pages(create_app(LocalAccess(home.cluster, workspace)))
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await _shoot(f"http://127.0.0.1:{listener.getsockname()[1]}", only, target)
            finally:
                server.should_exit = True
                await serving


def seed(workspace: Path, copies: int = 0) -> None:
    """Write the example jobs with their logs into a workspace that no runner works on."""
    (workspace / FOLDER).mkdir()
    store = LocalStore(workspace / FOLDER / "jobs.sqlite")
    for job in example_jobs(copies):
        created = store.create(job)
        created["metadata"]["creationTimestamp"] = job["metadata"]["creationTimestamp"]
        store.replace(created)
        for number, _ in enumerate(job["status"].get("attempts") or (), 1):
            attempt = workspace / FOLDER / "runs" / created["metadata"]["uid"] / str(number)
            attempt.mkdir(parents=True)
            (attempt / "started").write_text(job["metadata"]["creationTimestamp"])
            (attempt / "exit-code").write_text("0")
            (attempt / "log").write_text("\n".join(example_log(job, ROOT / "data")) + "\n")
    store.close()


async def _shoot(address: str, only: str | None, target: Path) -> None:
    chromium = shutil.which("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, path in PAGES.items():
            if only in (None, name):
                for view, options in VIEWS.items():
                    await _one(browser, address + path, options, target / f"web-{name}-{view}.png")
        await browser.close()


async def _one(browser: Browser, address: str, options: dict[str, Any], file: Path) -> None:
    context = await browser.new_context(reduced_motion="reduce", **options)
    page = await context.new_page()
    await page.goto(address)
    await page.wait_for_function(SETTLED)
    await page.screenshot(path=file, full_page=True)
    await context.close()
    _shrink(file)
    print(file)


def _shrink(file: Path) -> None:
    from PIL import Image

    with Image.open(file) as image:
        small = image.convert("RGB").quantize(COLORS)
    small.save(file, optimize=True)


def main(arguments: list[str]) -> int:
    """Take them; 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PAGES, help="one page")
    parser.add_argument("--to", type=Path, default=IMAGES, help="the folder of the images")
    options = parser.parse_args(arguments)
    options.to.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(options.only, options.to))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
