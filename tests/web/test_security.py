"""What an attacker tries at the pages, with real requests and in Chromium."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.conftest import serving, token
from tests.api.local_server import running
from tests.controller.harness import OperatorHarness
from tests.web.conftest import BUSY, form_token

pytestmark = pytest.mark.cluster

GARDEN = {"Host": "garden.test"}
SESSION, CSRF = "model-garden-session", "model-garden-csrf"
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def replicas(kubeconfig: Path) -> Iterator[tuple[str, str]]:
    """Two servers behind one address, as the chart starts them; the addresses of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_GARDEN_SESSION_KEY", secrets.token_urlsafe(32))
        place = ("--host", "0.0.0.0", "--url", "https://garden.test")
        with serving(kubeconfig, *place) as first, serving(kubeconfig, *place) as second:
            yield first, second


@pytest.fixture(scope="module")
def secret(harness: OperatorHarness) -> str:
    """A token that may read and create."""
    harness.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rest"}})
    return token(harness.cluster, "page-user", "get", "list", "watch", "create")


def log_in(client: httpx.Client, secret: str, to: str = "/training", **headers: str) -> httpx.Response:
    page = client.get("/login", headers=headers)
    fields = {"csrf_token": form_token(page.text), "token": secret}
    return client.post("/login", params={"next": to}, data=fields, headers=headers)


def cookies(answer: httpx.Response) -> dict[str, str]:
    return {line.split("=")[0]: line.lower() for line in answer.headers.get_list("set-cookie")}


def test_cookies_are_for_this_server_alone(replicas: tuple[str, str], secret: str) -> None:
    with httpx.Client(base_url=replicas[0]) as client:
        first = cookies(client.get("/login", headers=GARDEN))
        assert {"secure", "httponly", "samesite=strict", "path=/"} <= set(first[CSRF].split("; "))
    with httpx.Client(base_url=replicas[0]) as client:
        plain = cookies(log_in(client, secret))  # through kubectl port-forward, without TLS
        assert {"httponly", "samesite=strict", "path=/"} <= set(plain[SESSION].split("; "))
        assert "secure" not in plain[SESSION]
        assert secret[:40].lower() not in plain[SESSION]


def test_a_session_works_at_every_replica_and_ends_for_good(replicas: tuple[str, str], secret: str) -> None:
    with httpx.Client(base_url=replicas[0]) as client:
        answer = log_in(client, secret, to="/training/new?model_type=text")
        assert (answer.status_code, answer.headers["location"]) == (303, "/training/new?model_type=text")
        session = client.cookies[SESSION]
        for replica in replicas:
            page = httpx.get(replica + "/training", cookies={SESSION: session})
            assert page.status_code == 200
            assert secret not in page.text
            assert "Log out" in page.text
        out = client.post("/logout", data={"csrf_token": form_token(client.get("/training").text)})
        assert (out.status_code, client.cookies.get(SESSION)) == (303, None)
        copied = httpx.get(replicas[0] + "/training", cookies={SESSION: session})
        assert copied.status_code == 401
        assert "The session was logged out" in copied.text


@pytest.mark.parametrize("to", ["https://attacker.test", "//attacker.test", "/\\attacker.test", "/training\r\nX: y"])
def test_the_login_leads_to_no_other_server(replicas: tuple[str, str], secret: str, to: str) -> None:
    with httpx.Client(base_url=replicas[0]) as client:
        assert log_in(client, secret, to=to).headers["location"] == "/training"


def test_an_expired_token_is_called_so(replicas: tuple[str, str]) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() - 3600}).encode()).decode().rstrip("=")
    with httpx.Client(base_url=replicas[0]) as client:
        answer = log_in(client, f"e30.{claims}.c2ln")
        assert answer.status_code == 401
        assert re.search(r"The token expired at \d\d:\d\d UTC on [-\d]+; kubectl create token", answer.text)
        unknown = log_in(client, "never-known")
        assert unknown.status_code == 401
        assert "does not accept these credentials" in unknown.text
        assert SESSION not in client.cookies


def test_a_form_needs_the_token_of_its_own_session(
    replicas: tuple[str, str], secret: str, harness: OperatorHarness
) -> None:
    job = {"base_model": "a/b", "dataset_path": "./data/rows.jsonl", "name": "forged", "namespace": "rest"}
    with httpx.Client(base_url=replicas[0]) as mine, httpx.Client(base_url=replicas[0]) as theirs:
        log_in(mine, secret)
        log_in(theirs, secret)
        other = form_token(theirs.get("/training/new").text)
        before = form_token(httpx.get(replicas[0] + "/login", cookies={CSRF: mine.cookies[CSRF]}).text)
        for wrong in ({}, {"csrf_token": ""}, {"csrf_token": "x"}, {"csrf_token": other}, {"csrf_token": before}):
            assert mine.post("/training/new", data=job | wrong).status_code == 403
            assert mine.post("/logout", data={"more": "x"} | wrong).status_code == 403
        # A neighboring domain can plant the cookie that the token is made of, but does not know the session.
        mine.cookies.set(CSRF, theirs.cookies[CSRF], domain="127.0.0.1")
        assert mine.post("/training/new", data=job | {"csrf_token": other}).status_code == 403
        right = form_token(mine.get("/training/new").text)
        elsewhere = {"Origin": "https://attacker.test"}
        assert mine.post("/training/new", data=job | {"csrf_token": right}, headers=elsewhere).status_code == 403
        assert harness.cluster.get("trainingjob", "forged", "rest") is None
        assert mine.post("/logout", data={"csrf_token": right}).status_code == 303


def test_nothing_is_changed_by_a_link(address: str, harness: OperatorHarness) -> None:
    harness.submit("linked", suspend=True)
    harness.until("linked", "Suspended")
    before = harness.get("trainingjob", "linked")
    for action in ("delete", "stop", "cancel", "suspend", "resume", "again"):
        httpx.get(f"{address}/training/linked/{action}")
    after = harness.get("trainingjob", "linked")
    assert (after["spec"], after["metadata"]["annotations"]) == (before["spec"], before["metadata"]["annotations"])
    assert "deletionTimestamp" not in after["metadata"]


def test_a_missing_right_is_named_with_the_command_that_grants_it(
    browser: Browser, replicas: tuple[str, str], harness: OperatorHarness, secret: str
) -> None:
    nobody = token(harness.cluster, "nobody", "create")
    context = browser.new_context(base_url=replicas[0])
    page = context.new_page()
    page.goto("/training?namespace=rest")
    page.get_by_label("Token").fill(nobody)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="You may not do this")).to_be_visible()
    assert page.url.endswith("/training?namespace=rest")
    expect(page.get_by_role("alert")).to_contain_text("has no right to list trainingjobs in the namespace rest")
    command = page.locator("pre").inner_text()
    assert command.startswith("kubectl create rolebinding nobody-view --clusterrole=view --serviceaccount=rest:nobody")
    axe = (Path(__file__).parent / "axe-4.14.1.min.js").read_text()
    context.close()
    for scheme in ("light", "dark"):
        context = browser.new_context(base_url=replicas[0], color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto("/training")
        page.evaluate(axe)
        assert page.evaluate("axe.run()")["violations"] == []
        page.get_by_label("Token").fill(nobody)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="You may not do this")).to_be_visible()
        page.evaluate(axe)
        assert page.evaluate("axe.run()")["violations"] == []
        context.close()


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A page of another site, whose query is the address that its link and its form lead to."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            to = self.path.partition("?")[2]
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            form = f'<form method="post" action="{to}"><button>Send</button></form>'
            self.wfile.write(f'<a href="{to}">Open</a>{form}'.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"  # to Chromium another site than 127.0.0.1
        server.shutdown()


def test_a_link_elsewhere_finds_the_session_and_a_form_elsewhere_does_not(
    browser: Browser, replicas: tuple[str, str], elsewhere: str, secret: str
) -> None:
    context = browser.new_context(base_url=replicas[0])
    page = context.new_page()
    page.goto("/training")
    page.get_by_label("Token").fill(secret)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    page.goto(f"{elsewhere}/?{replicas[0]}/training/new")
    page.get_by_role("link", name="Open").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    expect(page).to_have_url(f"{replicas[0]}/training/new")
    page.goto(f"{elsewhere}/?{replicas[0]}/logout")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Origin header")).to_be_visible()
    page.goto("/training")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    context.close()


def test_script_in_names_and_models_is_text(page: Page, harness: OperatorHarness) -> None:
    harness.submit("marked", baseModel=SCRIPT, outputDir=f"./models/{SCRIPT}", datasetPath=f"./data/{SCRIPT}")
    failed = harness.until("marked", "Failed")
    assert "<script>" in failed["failure"]["message"]
    query = f"name={SCRIPT}&base_model={SCRIPT}&dataset_path={SCRIPT}&use_case={SCRIPT}&model_type={SCRIPT}"
    for path in (
        *("/training", f"/training?search={SCRIPT}&phase={SCRIPT}", "/training/marked", f"/training/new?{query}"),
        *("/training/new?rerun=marked", f"/training/marked/logs?search={SCRIPT}", "/training/marked/again"),
    ):
        page.goto(path)
        assert page.locator("main").count() == 1
        assert "owned" not in page.title()
        assert page.locator("img[onerror], script:not([src])").count() == 0, path


def test_script_in_rows_is_text(browser: Browser, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"text": SCRIPT, "response": SCRIPT}, {SCRIPT: SCRIPT, "text": "a", "response": "b"}, {"text": SCRIPT}]
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with running(tmp_path) as address:
        preview = httpx.get(f"{address}/api/v1/datasets/preview", params={"path": "./data/rows.jsonl"}, timeout=60)
        assert preview.headers["content-type"] == "application/json"
        context = browser.new_context(base_url=address)
        page = context.new_page()
        for path in ("/training/new?dataset_path=./data/rows.jsonl&model_type=text", preview.url):
            page.goto(str(path))
            expect(page.locator("body")).not_to_be_empty()
            expect(page.locator(BUSY)).to_have_count(0)
            assert "owned" not in page.title()
            assert page.locator("img[onerror]").count() == 0
        context.close()


def test_every_page_forbids_inline_script(replicas: tuple[str, str], secret: str, harness: OperatorHarness) -> None:
    with httpx.Client(base_url=replicas[0]) as client:
        pages = [client.get("/training"), client.get("/login"), client.get("/nothing")]
        log_in(client, secret)
        pages += [client.get(path) for path in ("/training", "/training/new", "/training/none", "/training/x/logs")]
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<script(?![^>]* src=)|\son\w+=|javascript:", page.text), page.url
