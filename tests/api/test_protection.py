"""Which requests a server answers, by their Host and Origin."""

import pytest
from starlette.datastructures import Headers

from model_garden.api.protection import Addresses

URLS = ("https://Garden.test/", "http://model-garden-api.mg.svc:80", "http://10.0.0.7:8000")


def refused(addresses: Addresses, **headers: str) -> bool:
    return addresses.refusal(Headers(headers)) is not None


@pytest.mark.parametrize(
    "host", ["garden.test", "GARDEN.TEST", "model-garden-api.mg.svc", "10.0.0.7:8000", "localhost:8000", "127.0.0.1:9"]
)
def test_a_server_with_urls_answers_at_them_and_through_a_forwarded_port(host: str) -> None:
    assert not refused(Addresses(URLS), host=host)


@pytest.mark.parametrize(
    "host", ["attacker.test", "garden.test:8443", "garden.test.attacker.test", "10.0.0.7", "", "[::"]
)
def test_another_name_is_refused(host: str) -> None:
    assert refused(Addresses(URLS), host=host)
    assert refused(Addresses(loopback=True), host=host)


def test_a_public_server_without_urls_cannot_know_its_names() -> None:
    assert not refused(Addresses(), host="garden.test")


@pytest.mark.parametrize(
    ("origin", "is_refused"),
    [
        ("https://garden.test", False),
        ("http://garden.test", True),  # a page that somebody on the network could have changed
        ("https://other.test", True),
        ("null", True),
        ("https://[", True),
    ],
)
def test_a_page_must_be_of_the_same_origin(origin: str, is_refused: bool) -> None:
    assert refused(Addresses(URLS), host="garden.test", origin=origin) is is_refused


def test_the_address_says_whether_tls_ends_in_front() -> None:
    addresses = Addresses(URLS)
    assert addresses.scheme("Garden.test") == "https"
    assert addresses.scheme("10.0.0.7:8000") == "http"
    assert addresses.scheme("localhost:8000") is None


@pytest.mark.parametrize(
    "url", ["garden.test", "ftp://garden.test", "https://", "https://garden.test/path", "https://["]
)
def test_a_url_that_is_no_address_is_refused_with_its_value(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be an address such as https://garden"):
        Addresses([url])
