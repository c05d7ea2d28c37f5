"""``python -m model_garden.storage VERB``: the storage of the current folder over stdin and stdout, for use in a pod.

The first line of stdin is a JSON object, the argument of the verb. The answer is one JSON line on stdout; of
``archive`` it is the tar stream itself. On failure, the exit code is 1, and the last line of stderr is a JSON object:
``error``, the name of an error class of ``interface`` or ``services.errors``; ``problems``, its lines; and for
``BrokenDataset`` also ``report``, an UploadReport.

==========  ===================  ========================
verb        argument             answer
==========  ===================  ========================
datasets    ``{}``               list of StoredDataset
models      ``{}``               list of StoredModel
preview     PreviewRequest       Preview
check       DatasetQuestion      the report of ``check``
remove      ``{"path": PATH}``   ``null``
archive     ``{"path": PATH}``   a tar stream
upload      ``{"folder": NAME}`` ``null``, then as below
==========  ===================  ========================

After the answer ``null``, ``upload`` reads one JSON line for each step:

* ``{"missing": [FileDigest, …]}``; the answer is the list of those that are missing.
* ``{"add": {"path": PATH, "size": BYTES}}``, followed by exactly that many bytes; there is no answer.
* ``{"finish": {"keep_invalid": false}}``; the answer is the UploadReport, and the process ends.

If stdin ends before ``finish``, nothing of the upload is kept.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from model_garden.services.errors import ServiceError
from model_garden.storage.folder import FolderStorage
from model_garden.storage.interface import BrokenDataset, DatasetQuestion, PreviewRequest


async def answer(storage: FolderStorage, verb: str, argument: dict[str, Any]) -> Any:
    """The answer to a verb that needs no more input than its argument."""
    match verb:
        case "datasets":
            return await storage.datasets()
        case "models":
            return await storage.models()
        case "preview":
            return await storage.preview(PreviewRequest.model_validate(argument))
        case "check":
            return await storage.check(DatasetQuestion.model_validate(argument))
        case "remove":
            return await storage.remove(argument["path"])
    raise ValueError(f"unknown verb {verb}")


def failure(failed: ServiceError) -> dict[str, Any]:
    """An error as the last line of stderr has it."""
    found: dict[str, Any] = {"error": type(failed).__name__, "problems": failed.problems}
    if isinstance(failed, BrokenDataset):
        found["report"] = failed.report.model_dump(mode="json")
    return found


def tell(value: BaseModel | Sequence[BaseModel] | dict[str, Any] | None) -> None:
    """Write one answer."""
    sys.stdout.buffer.write(TypeAdapter(Any).dump_json(value) + b"\n")
    sys.stdout.buffer.flush()


def main(verb: str) -> int:
    """Carry out one verb; the exit code."""
    storage = FolderStorage(Path.cwd())
    try:
        tell(asyncio.run(answer(storage, verb, json.loads(sys.stdin.buffer.readline()))))
    except ServiceError as failed:
        print(json.dumps(failure(failed)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
