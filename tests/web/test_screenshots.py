"""The tool that takes the screenshots of the guide."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from PIL import Image

from tools.screenshots import PAGES, VIEWS, take


def test_a_page_is_taken_in_every_view(tmp_path: Path) -> None:
    asyncio.run(take("stop", tmp_path))
    images = {file.name: Image.open(io.BytesIO(file.read_bytes())) for file in tmp_path.iterdir()}
    widths = {name: image.width for name, image in images.items()}
    assert widths == {f"web-stop-{view}.png": options["viewport"]["width"] for view, options in VIEWS.items()}


def test_the_guide_shows_every_page() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "web-ui.md").read_text()
    assert [name for name in PAGES if f"images/web-{name}-phone.png" not in guide] == []
