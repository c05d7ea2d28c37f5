"""Lists of TrainingJobs: pages, filters, order, and what waits."""

import httpx
import pytest

from tests.api.conftest import BODY, NAMESPACE, ROUTE, bearer, set_status, token
from tests.cluster import TestCluster

pytestmark = pytest.mark.cluster


@pytest.fixture
def jobs(api: httpx.Client, garden: TestCluster) -> httpx.Client:
    """Five jobs, b and d of which run."""
    for name in ("c", "a", "e", "b", "d"):
        api.post(ROUTE, json=BODY | {"name": name, "labels": {"half": "first" if name < "c" else "second"}})
    for name in ("b", "d"):
        set_status(garden, name, phase="Running")
    return api


def names(client: httpx.Client, **params: str | int | list[str]) -> list[str]:
    """The names of all pages, each page checked for its size."""
    found: list[str] = []
    while True:
        page = client.get(ROUTE, params=params).json()
        assert len(page["items"]) <= int(str(params.get("limit", 500)))
        found += [job["name"] for job in page["items"]]
        if "continue" not in page:
            return found
        params["continue"] = page["continue"]


def test_all_pages_together_are_the_whole_list(jobs: httpx.Client) -> None:
    assert names(jobs, limit=2) == ["a", "b", "c", "d", "e"]
    assert names(jobs, limit=2, sort="-name") == ["e", "d", "c", "b", "a"]
    assert names(jobs, limit=1, sort="phase") == ["a", "c", "e", "b", "d"]


def test_jobs_are_filtered_by_phase_and_label(jobs: httpx.Client) -> None:
    assert names(jobs, phase="Running") == ["b", "d"]
    assert names(jobs, phase=["Running", "Pending"], label="half=first") == ["a", "b"]
    assert names(jobs, label="half!=first", limit=1) == ["c", "d", "e"]


@pytest.mark.parametrize(("sort", "rest"), [("-name", ["c", "b", "a"]), ("name", ["c", "d", "e"])])
@pytest.mark.parametrize("label", [{}, {"label": "half"}])
def test_pages_show_the_jobs_as_they_were_at_the_first_page(
    jobs: httpx.Client, sort: str, rest: list[str], label: dict[str, str]
) -> None:
    order = {"sort": sort} | label
    first = jobs.get(ROUTE, params={"limit": 2} | order).json()
    jobs.delete(f"{ROUTE}/{rest[-1]}")
    jobs.post(ROUTE, json=BODY | {"name": "f", "labels": {"half": "second"}})
    for action in ("suspend", "resume") * 5:  # with other lists in between, so that the server drops the first one
        params: dict[str, str | int] = {"limit": 9, "continue": first["continue"]} | order
        assert [job["name"] for job in jobs.get(ROUTE, params=params).json()["items"]] == rest
        jobs.post(f"{ROUTE}/b/{action}").raise_for_status()
        jobs.get(ROUTE, params=order)


def test_a_sorted_list_shows_a_job_as_soon_as_it_is_created_and_none_that_is_deleted(api: httpx.Client) -> None:
    for number in range(20):
        api.post(ROUTE, json=BODY | {"name": f"job-{number}"})
        assert names(api, sort="-creation_timestamp", limit=500).count(f"job-{number}") == 1
    for number in range(20):
        api.delete(f"{ROUTE}/job-{number}")
        assert f"job-{number}" not in names(api, sort="-creation_timestamp")


def test_a_sorted_list_is_for_those_who_may_list(jobs: httpx.Client, garden: TestCluster) -> None:
    """Whatever another caller has read, and also for those who may not watch."""
    newest = {"sort": "-creation_timestamp"}
    assert len(jobs.get(ROUTE, params=newest).json()["items"]) == 5
    lister, getter = token(garden, "lister", "list"), token(garden, "not-lister", "get", "watch")
    for _ in range(2):
        assert len(jobs.get(ROUTE, params=newest, headers=bearer(lister)).json()["items"]) == 5
        assert jobs.get(ROUTE, params=newest, headers=bearer(getter)).status_code == 403
    garden.kubectl("delete", "rolebinding", "lister", "-n", NAMESPACE)
    garden.until(lambda: jobs.get(ROUTE, params=newest, headers=bearer(lister)).status_code == 403)


def test_a_token_that_is_not_one_is_refused(jobs: httpx.Client) -> None:
    for sort in ("name", "phase"):
        answer = jobs.get(ROUTE, params={"continue": "nonsense", "sort": sort})
        assert answer.status_code == 400, answer.text


def test_a_token_of_another_list_is_refused(jobs: httpx.Client) -> None:
    page = jobs.get(ROUTE, params={"limit": 2, "sort": "phase"}).json()
    for other in ({"sort": "name"}, {"sort": "-phase"}, {"sort": "phase", "phase": "Running"}):
        answer = jobs.get(ROUTE, params={"continue": page["continue"]} | other)
        assert (answer.status_code, "token is not of a list" in answer.text) == (400, True)


def test_a_wrong_parameter_is_named(api: httpx.Client) -> None:
    answer = api.get(ROUTE, params={"limit": 0, "phase": "Sleeping"})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["query.limit", "query.phase.0"]
    assert api.get(ROUTE, params={"label": "!!"}).status_code == 400


def test_the_queue_tells_what_waits_and_why(jobs: httpx.Client, garden: TestCluster) -> None:
    condition = {
        "type": "Running",
        "status": "False",
        "reason": "Unschedulable",
        "message": "no node has a free GPU",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    set_status(garden, "c", phase="Queued", conditions=[condition])
    queue = jobs.get("/api/v1/training/queue").json()
    assert {job["id"] for job in queue["waiting"]} == {"a", "c", "e"}
    assert [job["position"] for job in queue["waiting"]] == [1, 2, 3]
    [queued] = [job for job in queue["waiting"] if job["id"] == "c"]
    assert (queued["phase"], queued["message"], queued["gpus"]) == ("Queued", "no node has a free GPU", 1)
    assert (queue["running"], queue["running_gpus"]) == (2, 2)
    everywhere = jobs.get(ROUTE, params={"all_namespaces": "true"}).json()["items"]
    assert NAMESPACE in {job["namespace"] for job in everywhere}
