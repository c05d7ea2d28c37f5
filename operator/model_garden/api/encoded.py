"""A job's document as JSON, kept for the next list or page that shows the same state of that job."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from model_garden.api.body import JsonAnswer
from model_garden.services.job_document import document_of

KEPT = 2000
"""Documents that are kept: of a few KiB each, and up to about 20 KiB after a long run."""
_documents: OrderedDict[tuple[str, str], bytes] = OrderedDict()


def encoded(job: dict[str, Any]) -> bytes:
    """The document of a plain resource as JSON. Whoever may read the job may read the document."""
    key = (job["metadata"]["uid"], job["metadata"]["resourceVersion"])
    document = _documents.pop(key, None) or bytes(JsonAnswer(document_of(job)).body)
    _documents[key] = document
    if len(_documents) > KEPT:
        _documents.popitem(last=False)
    return document
