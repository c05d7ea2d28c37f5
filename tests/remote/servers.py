"""Storage servers that the tests start: a real S3 server, a server of Google Cloud Storage's API, and a web server.

The S3 server is versitygw, a gateway of Versity to a folder: unlike moto it checks signatures, entity tags and ranges,
and it keeps objects as files, which tests change and read. ``go build`` makes it from the module in ``go/``, once.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from urllib.request import Request, urlopen

from tests.go_programs import built

MODULE = Path(__file__).parent / "go"
PACKAGES = {
    "versitygw": "github.com/versity/versitygw/cmd/versitygw",
    "fake-gcs-server": "github.com/fsouza/fake-gcs-server",
}
ACCESS, SECRET = "AKIDTESTSADMIN", "secret-of-the-tests-3141592653"
STRANGER, STRANGER_SECRET = "AKIDTESTSSTRANGER", "secret-of-a-stranger-2718281828"


def program(name: str) -> Path:
    """A server's program, built on first use: one to three minutes on two cores."""
    return built(name, MODULE, "storage-servers", ("go.sum", "go.mod"), PACKAGES[name])


@dataclass
class Bucket:
    """A bucket of a running server, and the folder that holds its objects as files."""

    name: str
    folder: Path
    endpoint: str
    scheme: str = "s3"

    def url(self, key: str) -> str:
        return f"{self.scheme}://{self.name}/{key}"

    def environment(self, access: str = ACCESS, secret: str = SECRET) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1"}

    def google(self) -> str:
        """A service account for a server that checks none."""
        account = {"gcs_base_url": self.endpoint, "disable_oauth": True}
        return json.dumps(account | dict.fromkeys(("client_email", "private_key", "private_key_id"), ""))

    def put(self, key: str, content: bytes) -> None:
        """Upload an object, as another program would."""
        if self.scheme == "gs":
            return self.post(f"/upload/storage/v1/b/{self.name}/o?uploadType=media&name={quote(key)}", content)
        from obstore.store import S3Store

        credentials = {"access_key_id": ACCESS, "secret_access_key": SECRET, "region": "us-east-1"}
        store = S3Store(self.name, endpoint=self.endpoint, client_options={"allow_http": True}, **credentials)  # type: ignore[arg-type]
        store.put(key, content)
        return None

    def post(self, path: str, content: bytes) -> None:
        """A request of Google's JSON API."""
        with urlopen(Request(self.endpoint + path, data=content, headers={"Content-Type": "application/json"})):
            pass

    def upload(self, folder: Path, prefix: str) -> None:
        """Upload the files of a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """An S3 server whose buckets are the folders in ``folder``; its URL."""
    port = free_port()
    (folder / "iam").mkdir(exist_ok=True)
    (folder / "buckets").mkdir(exist_ok=True)
    command = [
        *(str(program("versitygw")), "--port", f"127.0.0.1:{port}", "--access", ACCESS, "--secret", SECRET, "--quiet"),
        *("--iam-dir", str(folder / "iam"), "posix", "--sidecar", str(folder / "sidecar"), str(folder / "buckets")),
    ]
    (folder / "sidecar").mkdir(exist_ok=True)
    with (folder / "server.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_for_port(port, server)
            url = f"http://127.0.0.1:{port}"
            admin = (str(program("versitygw")), "admin", "-a", ACCESS, "-s", SECRET, "--endpoint-url", url)
            user = ("create-user", "--access", STRANGER, "--secret", STRANGER_SECRET, "--role", "user")
            subprocess.run([*admin, *user], check=True, stdout=log, stderr=log)
            yield url
        finally:
            server.kill()


@contextmanager
def gcs_server(folder: Path) -> Iterator[Bucket]:
    """A server of Google Cloud Storage's API with one bucket. It lacks the part of the API that obstore writes with."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [
        *(str(program("fake-gcs-server")), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
        *("-backend", "memory", "-public-host", address),
    ]
    with (folder / "gcs.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_for_port(port, server)
            bucket = Bucket("bucket", folder, f"http://{address}", "gs")
            bucket.post("/storage/v1/b?project=tests", b'{"name": "bucket"}')
            yield bucket
        finally:
            server.kill()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the server did not start: {server.args!r}")


@dataclass
class Web:
    """A web server with TLS. ``files`` are its files by path; ``requests`` holds each request that it got."""

    url: str
    certificate: Path
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range of each request."""
    break_after: int | None = None
    """The next download breaks off after so many bytes."""
    failures: dict[str, list[int]] = field(default_factory=dict)
    """The statuses of the next answers, by path."""
    has_tags: bool = True
    """Whether answers have an entity tag."""

    @property
    def environment(self) -> dict[str, str]:
        return {"SSL_CERT_FILE": str(self.certificate)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path, web = unquote(self.path), self.web
        web.requests.append((self.command, path, self.headers.get("Range", "")))
        if web.failures.get(path):
            return self._end(web.failures[path].pop(0), b"", {})
        if path in web.redirects:
            return self._end(302, b"", {"Location": web.redirects[path]})
        if path not in web.files:
            return self._end(404, b"", {})
        content = web.files[path]
        tag = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'} if web.has_tags else {}
        start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0]) if "Range" in self.headers else 0
        return self._end(206 if start else 200, content[start:], tag, body=body)

    def _end(self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        if self.web.break_after is not None:
            content, self.web.break_after, self.close_connection = content[: self.web.break_after], None, True
        self.wfile.write(content)


@contextmanager
def web_server(folder: Path, *, tls: bool = True) -> Iterator[Web]:
    """A web server at https://localhost whose certificate is in ``Web.certificate``; or at http://localhost."""
    certificate, key = make_certificate(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    web = Web(f"http{'s' if tls else ''}://localhost:{server.server_port}", certificate)
    server.RequestHandlerClass = type("Handler", (_Handler,), {"web": web})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "tls.crt", folder / "tls.key"


if __name__ == "__main__":  # `make .venv/.tests` builds them before a test waits for them
    for one in PACKAGES:
        program(one)
