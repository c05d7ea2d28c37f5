"""The OpenAPI document is kept in front of a cluster."""

from pathlib import Path

import httpx
import pytest

from tests.api.conformance import check_answers


@pytest.mark.cluster
def test_every_answer_is_one_that_the_document_names(api: httpx.Client, tmp_path: Path) -> None:
    check_answers(api, tmp_path, "--exclude-path-regex", "/(events|logs)$")  # streams, which may have no end
