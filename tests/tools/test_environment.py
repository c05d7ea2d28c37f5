"""The page of environment variables has each variable of the code, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tools.generate import ROOT
from tools.reference.environment import TABLES

ONE_WORD = {"HOME", "KUBECONFIG", "MPLCONFIGDIR", "NNODES", "RANK", "TERM"}
NO_VARIABLES = {"CAUSAL_LM", "CUBLAS_STATUS_ALLOC_FAILED", "GPU_BUFFERS", "QUEUE_VISIBILITY", "TRAINING_JOBS"}
NO_VARIABLES |= {"DEVICE_CLASSES", "RESOURCE_CLAIMS", "RESOURCE_CLAIM_TEMPLATES", "RESOURCE_SLICES", "UNSAFE_CODE"}
ONLY_REMOVED = {"HUGGING_FACE_HUB_TOKEN"}
"""Kept from llama.cpp's programs, and read by no one."""

VARIABLES_OF_SETTINGS = {
    "MODEL_GARDEN_LOG_FORMAT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "POD_IP",
    "POD_NAME",
    "POD_NAMESPACE",
}
"""On the page of the operator's settings, which is made from the settings themselves."""


def sources() -> Iterator[Path]:
    for folder in ("operator/model_garden", "trainer-image/model_garden_trainer"):
        yield from (ROOT / folder).rglob("*.py")


def variables_of_the_code() -> set[str]:
    """Each string that is spelled as a variable is."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                if text in ONE_WORD or re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", text):
                    found.add(text)
    return found - NO_VARIABLES - ONLY_REMOVED


def test_the_page_lists_the_variables_of_the_code_and_no_others() -> None:
    listed = {variable.name for variables in TABLES.values() for variable in variables}

    assert variables_of_the_code() - VARIABLES_OF_SETTINGS == listed
