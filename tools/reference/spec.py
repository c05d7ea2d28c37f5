"""docs/reference/spec.md: every field of the spec with its default."""

from __future__ import annotations

from model_garden.contract.fields import markdown_table
from tools.reference.markdown import page

INTRODUCTION = """
Two fields are required. The operator applies the defaults of the others and shows the result in `status.effectiveSpec`.
`kubectl explain trainingjob.spec` says the same as this page. All fields but `suspend` and `ttlSecondsAfterFinished`
are fixed once a job exists.
"""


def spec_reference() -> str:
    """The page as Markdown."""
    return page("TrainingJob reference", "operator/model_garden/contract", INTRODUCTION, markdown_table())
