from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.servers import Bucket, Web, s3_server, web_server


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of an S3 server, and the folder of its buckets."""
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder) as url:
        yield url, folder / "buckets"


@pytest.fixture
def bucket(s3_endpoint: tuple[str, Path], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket of its own for each test, whose credentials and endpoint are in the environment."""
    import hashlib

    url, folder = s3_endpoint
    name = "bucket-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    (folder / name).mkdir()
    made = Bucket(name, folder / name, url)
    for variable, value in made.environment().items():
        monkeypatch.setenv(variable, value)
    return made


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web server with TLS, whose certificate is trusted."""
    with web_server(tmp_path) as made:
        for variable, value in made.environment.items():
            monkeypatch.setenv(variable, value)
        yield made


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "model-garden" / "remote"
