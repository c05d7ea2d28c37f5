"""The claims of a cluster as the home of data sets and models: each operation is a command in a short-lived pod.

The command is ``python -m model_garden.storage VERB``, whose ``__main__`` describes what is said. It runs by an exec
with the caller's own credentials: RBAC decides, and the pod needs neither a port nor a token.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from pydantic import TypeAdapter

from model_garden.builders.storage_job import CONTAINER, PYTHON, StoragePlace
from model_garden.cluster import Cluster, ClusterError, execute
from model_garden.storage.interface import (
    AS_IT_IS,
    DatasetQuestion,
    FileDigest,
    Preview,
    PreviewRequest,
    Reading,
    StoredDataset,
    StoredModel,
    Upload,
    UploadRefused,
    UploadReport,
)
from model_garden.storage.pod_protocol import ENDED, Conversation
from model_garden.storage.pod_start import RIGHTS, running_pod

GONE = ("NotFound", "Unreachable", "HTTP500", ENDED)
"""Why a verb fails before it answers where its pod has ended; a kubelet answers 500 for a container that has."""
ENDING_SECONDS = 2.0
"""How long after its end a pod may still be listed as one that runs."""
_DATASETS, _MODELS = TypeAdapter(list[StoredDataset]), TypeAdapter(list[StoredModel])
_DIGESTS = TypeAdapter(list[FileDigest])


def place(data_claim: str | None = None, models_claim: str | None = None, image: str | None = None) -> StoragePlace:
    """The place that the arguments name, else the environment, else that of the chart's defaults."""
    secrets = os.environ.get("MODEL_GARDEN_STORAGE_PULL_SECRETS", "")
    given: dict[str, Any] = {
        "data_claim": data_claim or os.environ.get("MODEL_GARDEN_DATA_CLAIM"),
        "models_claim": models_claim or os.environ.get("MODEL_GARDEN_MODELS_CLAIM"),
        "image": image or os.environ.get("MODEL_GARDEN_STORAGE_IMAGE"),
        "pull_secrets": tuple(name.strip() for name in secrets.split(",") if name.strip()),
    }
    return StoragePlace(**{name: value for name, value in given.items() if value})


class PodStorage:
    """The ``Storage`` of a namespace.

    Args:
        cluster: with the caller's credentials.
        namespace: whose claims are used.
        where: the claims and the image of the pod.
        tell: called with each new reason why the pod does not run yet.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        where: StoragePlace | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._cluster, self._namespace, self._tell = cluster, namespace, tell
        self._place = where or place()

    async def datasets(self) -> list[StoredDataset]:
        """The data sets by name."""
        return _DATASETS.validate_python(await self._ask("datasets", {}))

    async def models(self) -> list[StoredModel]:
        """The models by name."""
        return _MODELS.validate_python(await self._ask("models", {}))

    async def preview(self, request: PreviewRequest) -> Preview:
        """Rows of a data set."""
        return Preview.model_validate(await self._ask("preview", request.model_dump(mode="json")))

    async def check(self, question: DatasetQuestion) -> dict[str, Any]:
        """The report of ``model-garden validate``."""
        report: dict[str, Any] = await self._ask("check", question.model_dump(mode="json"))
        return report

    async def remove(self, path: str) -> None:
        """Delete a data set or a model."""
        await self._ask("remove", {"path": path})

    def upload(self, folder: str, used_by: Sequence[str] = ()) -> AbstractAsyncContextManager[Upload]:
        """Begin an upload."""
        return self._upload(folder, used_by)

    @asynccontextmanager
    async def _upload(self, folder: str, used_by: Sequence[str]) -> AsyncIterator[Upload]:
        async with self._talk("upload", {"folder": folder, "used_by": list(used_by)}) as talk:
            await talk.hear()
            yield PodUpload(talk)

    async def archive(self, path: str) -> AsyncGenerator[bytes, None]:
        """A tar stream."""
        async with self._talk("archive", {"path": path}) as talk:
            async for piece in talk.pieces():
                yield piece
            await talk.end()

    async def _ask(self, verb: str, argument: dict[str, Any]) -> Any:
        async with self._talk(verb, argument) as talk:
            answer = await talk.hear()
            await talk.end()
            return answer

    @asynccontextmanager
    async def _talk(self, verb: str, argument: dict[str, Any]) -> AsyncIterator[Conversation]:
        """A verb that has begun to answer. A pod that ends at this very moment is replaced, once."""
        async with AsyncExitStack() as stack:
            try:
                talk = await self._begin(stack, verb, argument)
            except ClusterError as failed:
                if failed.reason not in GONE:
                    raise
                await asyncio.sleep(ENDING_SECONDS)
                talk = await self._begin(stack, verb, argument)
            yield talk

    async def _begin(self, stack: AsyncExitStack, verb: str, argument: dict[str, Any]) -> Conversation:
        try:
            pod = await running_pod(self._cluster, self._namespace, self._place, self._tell)
            words = [*PYTHON, "model_garden.storage", verb]
            command = await stack.enter_async_context(
                execute(self._cluster, pod, words, self._namespace, container=CONTAINER)
            )
        except ClusterError as refused:
            if refused.status == 403:
                raise ClusterError(403, refused.reason, f"{refused.message}; {RIGHTS}") from refused
            raise
        talk = Conversation(command)
        await talk.say(argument)
        await talk.begin()
        return talk


class PodUpload:
    """The ``Upload`` that a conversation makes."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk

    async def missing(self, files: list[FileDigest]) -> list[FileDigest]:
        """Those that the folder does not hold with this content."""
        await self._talk.say({"missing": _DIGESTS.dump_python(files)})
        return _DIGESTS.validate_python(await self._talk.hear())

    async def add(self, path: str, size: int, content: AsyncIterator[bytes]) -> None:
        """Receive one file."""
        await self._talk.say({"add": {"path": path, "size": size}})
        sent = 0
        async for piece in content:
            sent += len(piece)
            if sent > size:
                raise UploadRefused(f"{path}: has more than the announced {size:,} bytes; send the file again")
            await self._talk.send(piece)
        if sent < size:
            raise UploadRefused(f"{path}: only {sent:,} of {size:,} bytes arrived; send the file again")

    async def finish(self, reading: Reading = AS_IT_IS, *, keep_invalid: bool = False) -> UploadReport:
        """Check the data set, then make the folder visible at once."""
        said = {"keep_invalid": keep_invalid, "reading": reading.model_dump(mode="json")}
        await self._talk.say({"finish": said})
        report = UploadReport.model_validate(await self._talk.hear())
        await self._talk.end()
        return report
