"""From rows in files to examples, checked and measured. No torch here: ``model-garden validate`` runs it too.

How the trainer and ``validate`` use it::

    examples = open_examples(path, vision=True, split="train", root=workspace_or_None)   # lazy, random access
    report = check_examples(examples, measure=TokenCounter.load(model, vision=True), max_length=4096)
    report.raise_for_problems()                                                          # DatasetError
    examples[3].images[0].open()                                                         # a picture, only now

The flow through the files: ``source`` (files, folder, Hub) -> ``rows`` (a row by number) -> ``convert`` with ``locate``
(a row's Example) -> ``examples`` (the sequence) -> ``check`` with ``pictures`` and ``tokens`` (the report). A
``DatasetError`` holds one line a problem: file, row, reason, fix.
"""

from model_garden.datasets.check import CheckReport, check_examples
from model_garden.datasets.errors import DatasetError
from model_garden.datasets.example import Example, ImageRef, Message, Origin
from model_garden.datasets.examples import Examples, open_examples
from model_garden.datasets.tokens import TokenCounter, UncountableError

__all__ = [
    "CheckReport",
    "DatasetError",
    "Example",
    "Examples",
    "ImageRef",
    "Message",
    "Origin",
    "TokenCounter",
    "UncountableError",
    "check_examples",
    "open_examples",
]
