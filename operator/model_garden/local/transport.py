"""Answers the requests of ``cluster.Cluster`` as an API server would: TrainingJobs, and their attempts as pods.

The protocol is Kubernetes' own: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from model_garden.cluster import PODS, TRAINING_JOBS, Cluster, Resource
from model_garden.contract import names
from model_garden.contract.crd import MUTABLE
from model_garden.contract.resource import InvalidResource, parse_resource, parse_spec
from model_garden.local import objects, process
from model_garden.local.runner import state_of
from model_garden.local.store import NAMESPACE, LocalStore, Stale, TooOld, with_identity

Object = dict[str, Any]

LOG_SECONDS = 0.2
"""Pause between two looks at a log that is followed."""
_STAMP = "1970-01-01T00:00:00.000000000Z"
"""The time of every log line: nothing here breaks a connection, after which a client would resume by time."""


class Refused(Exception):
    """A request that an API server would refuse: an HTTP status, a reason and a sentence."""

    def __init__(self, code: int, reason: str, message: str, causes: list[str] | None = None) -> None:
        super().__init__(message)
        self.status: Object = {
            "kind": "Status",
            "code": code,
            "reason": reason,
            "message": message,
            "details": {"causes": [_cause(problem) for problem in causes or ()]},
        }


def local_cluster(store: LocalStore, folder: Path) -> Cluster:
    """A client of the TrainingJobs in ``store``; ``folder`` holds the attempts of each by uid."""

    async def nothing() -> Object:
        return {}

    configuration = SimpleNamespace(host="http://this-machine", auth_settings=nothing)
    return Cluster(configuration, _Transport(store, folder), NAMESPACE)


class _Transport:
    """In the place of the HTTP client that ``Cluster`` uses."""

    def __init__(self, store: LocalStore, folder: Path) -> None:
        self._store, self._folder = store, folder

    async def close(self) -> None:
        """Nothing is open."""

    async def request(
        self, method: str, url: str, headers: Any = None, body: Object | None = None, _request_timeout: Any = None
    ) -> Any:
        """The answer to one request; its ``response`` reads as an ``aiohttp.ClientResponse``."""
        del headers, _request_timeout  # there is nobody to authenticate, and nothing to wait for
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        try:
            return SimpleNamespace(response=_Response(200, self._answer(method, parts.path, query, body)))
        except Refused as refused:
            return SimpleNamespace(response=_Response(refused.status["code"], refused.status))
        except Stale:
            status = Refused(409, "Conflict", "the object has been modified; read it again").status
            return SimpleNamespace(response=_Response(409, status))
        except TooOld:
            return SimpleNamespace(response=_Response(410, Refused(410, "Expired", "too old resource version").status))

    def _answer(self, method: str, path: str, query: dict[str, str], body: Object | None) -> Any:
        resource, namespace, name, part = _parse(path)
        if namespace not in (None, NAMESPACE):
            raise Refused(404, "NotFound", f"namespace {namespace!r} does not exist on this machine; use {NAMESPACE}")
        if resource is PODS and method == "GET":
            return self._pods(name, part, query)
        if resource is not TRAINING_JOBS or part:
            raise Refused(404, "NotFound", f"this machine serves no {path}")
        match method, name:
            case "GET", None if query.get("watch"):
                return self._watch(query)
            case "GET", None:
                return self._list(query)
            case "GET", str():
                return self._get(name)
            case "POST", None:
                return self._create(body or {}, dry_run="dryRun" in query)
            case "PATCH", str():
                return self._patch(name, body or {})
            case "DELETE", str():
                return self._delete(name, body or {})
        raise Refused(405, "MethodNotAllowed", f"{method} {path}")

    def _get(self, name: str) -> Object:
        found = self._store.get(name)
        if found is None:
            raise Refused(404, "NotFound", f'{names.PLURAL}.{names.GROUP} "{name}" not found')
        return found

    def _list(self, query: dict[str, str]) -> Object:
        """A list as it is now, or as it was at the version that the request or its continue token names."""
        wanted, (version, after) = _selector(query), _place(query)
        kept = self._store.all() if version is None else self._store.at(version)
        items = [item for item in kept if wanted(item) and item["metadata"]["name"] > after]
        metadata: Object = {"resourceVersion": str(self._store.version if version is None else version)}
        limit = int(query.get("limit") or 0)
        if limit and len(items) > limit:
            metadata["remainingItemCount"] = len(items) - limit
            items = items[:limit]
            metadata["continue"] = f"{metadata['resourceVersion']}:{items[-1]['metadata']['name']}"
        return {"metadata": metadata, "items": items}

    async def _watch(self, query: dict[str, str]) -> AsyncIterator[bytes]:
        wanted, version = _selector(query), int(query["resourceVersion"])
        while True:
            try:
                changes = self._store.changes_since(version)
            except TooOld:
                yield _line({"type": "ERROR", "object": Refused(410, "Expired", "too old resource version").status})
                return
            for kind, item in changes:
                version = int(item["metadata"]["resourceVersion"])
                if wanted(item):
                    yield _line({"type": kind, "object": item})
            await self._store.wait(version)

    def _create(self, body: Object, *, dry_run: bool) -> Object:
        try:
            name, _ = parse_resource(body)
        except InvalidResource as error:
            raise Refused(422, "Invalid", str(error), error.problems) from error
        if self._store.get(name):
            raise Refused(409, "AlreadyExists", f'{names.PLURAL}.{names.GROUP} "{name}" already exists')
        return with_identity(body) if dry_run else self._store.create(body)

    def _patch(self, name: str, change: Object) -> Object:
        before = self._get(name)
        after = apply_merge_patch(before, change)
        after["status"] = before.get("status")  # a subresource, which the runner alone writes
        if after["spec"] != before["spec"]:
            self._check_change(before["spec"], after["spec"])
            after["metadata"]["generation"] += 1
        return self._store.replace({key: value for key, value in after.items() if value is not None})

    def _check_change(self, before: Object, after: Object) -> None:
        fixed = sorted(
            key for key in before.keys() | after.keys() if key not in MUTABLE and before.get(key) != after.get(key)
        )
        problems = [f"spec.{key}: cannot be changed; rerun the job with the change instead" for key in fixed]
        try:
            parse_spec(after)
        except InvalidResource as error:
            problems += error.problems
        if problems:
            raise Refused(422, "Invalid", "; ".join(problems), problems)

    def _delete(self, name: str, body: Object) -> Object:
        found = self._get(name)
        uid = (body.get("preconditions") or {}).get("uid")
        if uid and uid != found["metadata"]["uid"]:
            raise Refused(409, "Conflict", f"{name} is another {names.KIND} by now")
        self._store.delete(name)
        return {"kind": "Status", "status": "Success"}

    def _pods(self, name: str | None, part: str | None, query: dict[str, str]) -> Any:
        found = self._attempts(_selector(query), name)
        if name is None:
            pods = [objects.pod(job, state_of(attempt)) for job, attempt in found]
            return {"metadata": {"resourceVersion": "0"}, "items": pods}
        for job, attempt in found:
            return self._log(attempt, query) if part == "log" else objects.pod(job, state_of(attempt))
        raise Refused(404, "NotFound", f'pods "{name}" not found')

    def _attempts(self, wanted: Callable[[Object], bool], name: str | None) -> list[tuple[Object, process.Attempt]]:
        """The attempts whose pods are wanted, and the metadata of their jobs. Their state, slow to get, is not read."""
        found = []
        for job in self._store.all():
            for attempt in process.attempts(self._folder / job["metadata"]["uid"]):
                identity = objects.pod_identity(job["metadata"], attempt.number)
                if name in (None, identity["name"]) and wanted({"metadata": identity}):
                    found.append((job["metadata"], attempt))
        return found

    async def _log(self, attempt: process.Attempt, query: dict[str, str]) -> AsyncIterator[bytes]:
        stamp = f"{_STAMP} ".encode() if query.get("timestamps") else b""
        if tail := query.get("tailLines"):
            lines = attempt.log.read_bytes().splitlines(keepends=True)
            for line in lines[max(0, len(lines) - int(tail)) :]:
                yield stamp + line
            return
        with attempt.log.open("rb") as file:
            while True:
                ended = attempt.exit_code is not None or not query.get("follow")
                rest = b""
                for line in file:
                    if not line.endswith(b"\n") and not ended:
                        rest = line
                        break
                    yield stamp + line
                if ended:
                    return
                file.seek(-len(rest), 1)
                await asyncio.sleep(LOG_SECONDS)


class _Response:
    """The part of ``aiohttp.ClientResponse`` that ``Cluster`` reads; ``body`` is a document or a stream."""

    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self._body = body
        self.content = self

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.iter_any()])

    async def iter_any(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        if isinstance(self._body, dict):
            yield json.dumps(self._body).encode()
            return
        async for chunk in self._body:
            yield chunk

    def release(self) -> None:
        """Nothing is held."""


def apply_merge_patch(target: Any, change: Any) -> Any:
    """``target`` after an RFC 7386 merge patch."""
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_merge_patch(result.get(key), value)
    return result


def _parse(path: str) -> tuple[Resource, str | None, str | None, str | None]:
    """The resource, namespace, name and subresource of a path."""
    for resource in (TRAINING_JOBS, PODS):
        root = resource.path().rpartition("/")[0]
        parts = path.removeprefix(root).strip("/").split("/") if path.startswith(root) else []
        namespace = parts[1] if parts[:1] == ["namespaces"] else None
        rest = parts[2:] if namespace else parts
        if rest and rest[0] == resource.plural:
            name, part = [*rest[1:], None, None][:2]
            return resource, namespace, name, part
    raise Refused(404, "NotFound", f"this machine serves no {path}")


def _selector(query: dict[str, str]) -> Callable[[Object], bool]:
    """Whether an object matches a request's selectors: ``metadata.name=NAME``, and those of labels."""
    field = query.get("fieldSelector", "").partition("metadata.name=")[2]
    labels = [_label_term(part.strip()) for part in query.get("labelSelector", "").split(",") if part.strip()]

    def matches(item: Object) -> bool:
        own = item["metadata"].get("labels") or {}
        named = not field or item["metadata"]["name"] == field
        return named and all(holds(own) for holds in labels)

    return matches


_TERM = re.compile(r"(?P<no>!?)(?P<key>[\w./-]+)|(?P<name>[\w./-]+)\s*(?P<sign>!=|==?)\s*(?P<value>[\w.-]*)")


def _label_term(text: str) -> Callable[[dict[str, str]], bool]:
    """``KEY=VALUE``, ``KEY!=VALUE``, which an object without the key matches too, ``KEY`` or ``!KEY``.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
    """
    term = _TERM.fullmatch(text)
    if term is None:
        rule = "use KEY=VALUE, KEY!=VALUE, KEY or !KEY, separated by commas"
        raise Refused(400, "BadRequest", f"the label selector {text!r} cannot be read on this machine; {rule}")
    no, key, name, sign, value = term.groups()
    if key:
        return lambda labels: (key in labels) != bool(no)
    return lambda labels: (labels.get(name) == value) != (sign == "!=")


def _place(query: dict[str, str]) -> tuple[int | None, str]:
    """The version of the list that a request asks for, None for the latest, and the name after which it begins."""
    try:
        if token := query.get("continue"):
            version, _, after = token.partition(":")
            return int(version), after
        return (int(query["resourceVersion"]) if query.get("resourceVersionMatch") == "Exact" else None), ""
    except ValueError as wrong:
        raise Refused(400, "BadRequest", f"continue or resourceVersion is not of this server: {wrong}") from wrong


def _cause(problem: str) -> Object:
    field, colon, message = problem.partition(": ")
    return {"field": field, "message": message} if colon and " " not in field else {"field": "", "message": problem}


def _line(event: Object) -> bytes:
    return json.dumps(event).encode() + b"\n"
