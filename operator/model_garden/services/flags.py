"""The flag of each field of the spec. ``--learning-rate`` is ``hyperparameters.learningRate``: the field's own name,
but for a few better known by another, and for the groups that begin it.
"""

from __future__ import annotations

from model_garden.contract.fields import SpecField

FLAGS = {
    "datasetPath": "--dataset",
    "validationDatasetPath": "--validation-dataset",
    "evaluation.datasetPath": "--evaluation-dataset",
    "hyperparameters.numEpochs": "--epochs",
    "loraConfig.r": "--lora-r",
    "pushToHub.repo": "--push-to-hub",
    "pushToHub.private": "--hub-private",
    "hubTokenSecret.name": "--hub-token-secret",
    "hubTokenSecret.key": "--hub-token-key",
}
PREFIXED = ("dpo", "kto", "orpo", "grpo", "rewards", "column_mapping", "tracking", "evaluation")
"""Groups whose name begins their flags: ``--dpo-beta``. Their fields have names that others have too."""
BY_COMMAND = ("is_vision", "model_type", "resources", "pod_template")
"""Fields that the command decides, and fields that only ``--set`` can set."""


def flag(field: SpecField) -> str:
    """The flag that gives ``field``."""
    words = field.path if field.path[0] in PREFIXED else field.path[-1:]
    return FLAGS.get(field.dotted, "--" + "-".join(words).replace("_", "-"))
