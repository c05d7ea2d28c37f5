"""From rows in files to examples, checked and measured. No torch here: ``model-garden validate`` runs it too.

How the trainer and ``validate`` use it::

    examples = open_examples(path, vision=True, split="train", root=workspace_or_None)   # lazy, random access
    report = check_examples(examples, measure=TokenCounter.load(model, vision=True), max_length=4096)
    report.raise_for_problems()                                                          # DatasetError
    pictures.decode(examples[3].images[0])                                               # an image, only now

A row passes ``source`` (file, folder or Hub), ``files`` (a row by its number), ``convert`` with ``locate`` (the row's
Example), ``examples`` (the sequence) and ``check`` with ``pictures`` and ``tokens`` (the report). A ``DatasetError``
holds one line for each problem: file, row, reason and fix.
"""

from model_garden.datasets.check import CheckReport, check_examples, warnings_of
from model_garden.datasets.errors import DatasetError
from model_garden.datasets.example import Example, ImageRef, Message
from model_garden.datasets.examples import Examples, open_examples
from model_garden.datasets.model_files import DamagedModelFile
from model_garden.datasets.origin import Origin
from model_garden.datasets.tokens import TokenCounter, UncountableError

__all__ = [
    "CheckReport",
    "DamagedModelFile",
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
    "warnings_of",
]
