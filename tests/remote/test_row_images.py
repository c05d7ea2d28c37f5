"""Images that rows name by addresses: fetched once from a real server, by content, and never from inside a network."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from model_garden.datasets import check_examples, open_examples
from model_garden.datasets.fetched_pictures import Pictures
from model_garden.remote import row_images
from model_garden.remote import web as web_module
from model_garden.remote.errors import RemoteError
from model_garden.remote.public import PRIVATE
from model_garden.remote.row_images import fetch_images
from tests.remote.servers import Web, web_server


def png(color: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web server without TLS, whose private address is allowed."""
    monkeypatch.setenv(PRIVATE, "true")
    monkeypatch.setattr(row_images, "PAUSES", (0.0, 0.0))
    with web_server(tmp_path, tls=False) as made:
        made.files = {"/a.png": png("red"), "/b.png": png("blue"), "/not.png": b"<html>"}
        yield made


def problems(tmp_path: Path, pictures: Pictures | None, *addresses: str) -> list[str]:
    """What the check of a data set says whose rows name these images."""
    rows = [{"text": "What?", "image": address, "response": "A square"} for address in addresses]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return check_examples(open_examples(tmp_path / "rows.jsonl", vision=True, pictures=pictures)).problems


def test_each_address_is_fetched_once_and_later_needs_no_server(site: Web, tmp_path: Path) -> None:
    site.redirects["/moved.png"] = f"{site.url}/b.png"
    addresses = [f"{site.url}/{name}.png" for name in ("a", "b", "moved")]
    told: list[tuple[int, int]] = []
    first = fetch_images(addresses, tell=lambda there, total: told.append((there, total)))
    assert told[-1] == (3, 3)
    assert [path for method, path, _ in site.requests if method == "GET"].count("/a.png") == 1
    assert problems(tmp_path, Pictures(first.path), *addresses) == []
    assert fetch_images(addresses).digest == first.digest
    assert [path for method, path, _ in site.requests if method == "GET"].count("/a.png") == 1
    site.files["/a.png"] = png("green")
    seen = len(site.requests)
    again = fetch_images(addresses, expected=first.digest)
    assert (again, len(site.requests)) == (first, seen)
    with pytest.raises(RemoteError, match="changed since the job first read it"):
        fetch_images(addresses[:1], expected="0" * 64)
    assert fetch_images(addresses).digest != first.digest


def test_what_cannot_be_fetched_is_named_by_its_row(site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_module, "MAX_IMAGE_BYTES", 1000)
    site.files |= {"/large.png": b"\0" * 2000, "/empty.png": b""}
    site.redirects |= {"/ftp.png": "ftp://localhost/a.png", "/loop.png": f"{site.url}/loop.png"}
    names = ("a", "gone", "large", "empty", "not", "ftp", "loop")
    addresses = [f"{site.url}/{name}.png" for name in names]
    found = problems(tmp_path, Pictures(fetch_images(addresses).path), *addresses)
    words = (
        "the server answers 404",
        "more than 1,000 bytes",
        "sends no bytes",
        "is not an image of a supported type",
        "",
    )
    for row, (line, said) in enumerate(zip(found, words, strict=False), 2):
        assert f"rows.jsonl row {row}: " in line and addresses[row - 1] in line and said in line
    assert len(found) == len(names) - 1
    assert "download the image next to the data file" in found[0]


def test_no_message_and_no_file_of_the_cache_holds_the_secrets_of_an_address(site: Web, tmp_path: Path) -> None:
    site.files |= {"/a.png?sig=SECRET": png("red"), "/not.png?sig=SECRET": b"<html>"}
    with_password = site.url.replace("://", "://someone:SECRET@")
    addresses = [
        f"{site.url}/a.png?sig=SECRET",
        f"{site.url}/gone.png?sv=2&sig=SECRET",
        f"{site.url}/not.png?sig=SECRET",
        f"{with_password}/gone.png",
        "http://someone:p@SECRET:SECRET@images.example.com/a.png",
    ]
    fetched = fetch_images(addresses)
    found = problems(tmp_path, Pictures(fetched.path), *addresses)
    assert len(found) == 4 and not any("SECRET" in line for line in found), found
    assert f"'{site.url}/gone.png?…', which cannot be fetched: the server answers 404" in found[0]
    assert f"{site.url}/not.png?…" in found[1]
    assert f"'{site.url}/gone.png'" in found[2]
    assert not any(b"SECRET" in path.read_bytes() for path in fetched.path.parents[1].rglob("*") if path.is_file())
    refused = problems(tmp_path, None, *addresses)
    assert len(refused) == 5 and not any("SECRET" in line for line in refused)


def test_a_server_that_fails_for_a_moment_is_asked_again(site: Web, tmp_path: Path) -> None:
    site.failures["/a.png"] = [503, 503]
    site.failures["/b.png"] = [403]  # a signed address, which answers GET alone
    addresses = [f"{site.url}/a.png", f"{site.url}/b.png"]
    assert problems(tmp_path, Pictures(fetch_images(addresses).path), *addresses) == []


def test_limits_end_a_fetch(site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [f"{site.url}/{name}.png" for name in ("a", "b")]
    monkeypatch.setattr(row_images, "MAX_FAILED", 0)
    assert "it was not tried" in problems(tmp_path, Pictures(fetch_images(addresses).path), *addresses)[0]
    monkeypatch.setattr(row_images, "MAX_FAILED", 100)
    monkeypatch.setattr(row_images, "MAX_BYTES", 10)
    with pytest.raises(RemoteError, match="have more than 10 bytes"):
        fetch_images(addresses)
    monkeypatch.setattr(row_images, "MAX_IMAGES", 1)
    with pytest.raises(RemoteError, match="rows name 2 images, more than 1"):
        fetch_images(addresses)


def test_no_private_address_is_asked_unless_that_is_allowed(
    site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PRIVATE)
    address = f"{site.url}/a.png"
    [problem] = problems(tmp_path, Pictures(fetch_images([address]).path), address)
    assert "which is no public address" in problem and PRIVATE in problem
    assert site.requests == []


def test_addresses_are_refused_or_left_for_later(tmp_path: Path) -> None:
    address = "http://images.example.com/a.png"
    [problem] = problems(tmp_path, None, address)
    assert "images are not downloaded; set fetchPictures: true to fetch it before training; or copy" in problem
    assert problems(tmp_path, Pictures(), address) == []
    report = check_examples(open_examples(tmp_path / "rows.jsonl", vision=True, pictures=Pictures()))
    assert report.warnings == ["1 image(s) at addresses were not fetched and not checked here"]
