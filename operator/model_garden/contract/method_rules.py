"""The rules of training methods: which settings each has, and what it cannot be combined with."""

from __future__ import annotations

from model_garden.contract.methods import REWARDS
from model_garden.contract.rule import Document, Rule, get, has, method_of

_SFT = "(!has(self.method) || self.method == 'sft')"


def _block(method: str) -> Rule:
    """The block of a method needs the method."""
    return Rule(
        method,
        lambda s: method in s and method_of(s) != method,
        f"!has(self.{method}) || (has(self.method) && self.method == '{method}')",
        f"is only for method: {method}; set that or remove it",
    )


def _rewarded_by(spec: Document, function: str) -> bool:
    return function in (get(spec, "rewards.functions") or ())


def _setting_of(setting: str, function: str) -> Rule:
    """A setting of a reward function needs the function."""
    return Rule(
        f"rewards.{setting}",
        lambda s: get(s, f"rewards.{setting}") is not None and not _rewarded_by(s, function),
        f"!({has(f'rewards.{setting}')}) || '{function}' in self.rewards.functions",
        f"is only for the function {function}; add it to rewards.functions or remove this",
    )


def _needs_setting(function: str, setting: str) -> Rule:
    """A reward function needs a setting."""
    return Rule(
        "rewards.functions",
        lambda s: _rewarded_by(s, function) and get(s, f"rewards.{setting}") is None,
        f"!has(self.rewards) || !('{function}' in self.rewards.functions) || has(self.rewards.{setting})",
        f"has {function}, which needs rewards.{setting}; set it",
    )


METHOD_RULES = (
    *map(_block, ("dpo", "kto", "orpo", "grpo")),
    Rule(
        "rewards",
        lambda s: "rewards" in s and method_of(s) != "grpo",
        "!has(self.rewards) || (has(self.method) && self.method == 'grpo')",
        "is only for method: grpo; set that or remove it",
    ),
    Rule(
        "columnMapping.label",
        lambda s: "columnMapping" in s and (get(s, "columnMapping.label") is not None) != (method_of(s) == "kto"),
        "!has(self.columnMapping) || has(self.columnMapping.label) == (has(self.method) && self.method == 'kto')",
        "names the column that says whether an answer is wanted; method: kto needs it, and no other reads it",
    ),
    Rule(
        "method",
        lambda s: method_of(s) == "grpo" and "rewards" not in s,
        "!has(self.method) || self.method != 'grpo' || has(self.rewards)",
        "needs rewards; set rewards.functions, for example to [exact_match]",
    ),
    Rule(
        "rewards.weights",
        lambda s: (
            get(s, "rewards.weights") is not None
            and len(s["rewards"]["weights"]) != len(get(s, "rewards.functions") or ())
        ),
        f"!({has('rewards.weights')}) || size(self.rewards.weights) == size(self.rewards.functions)",
        "must have one number for each of rewards.functions",
    ),
    Rule(
        "rewards.functions",
        lambda s: get(s, "rewards.file") is None and not set(get(s, "rewards.functions") or ()) <= set(REWARDS),
        f"!has(self.rewards) || has(self.rewards.file) || self.rewards.functions.all(f, f in {list(REWARDS)})",
        f"has a name that is none of {', '.join(REWARDS)}; correct it, or set rewards.file to the file that defines it",
    ),
    *map(_setting_of, ("pattern", "jsonSchema", "maxLength"), ("regex", "json_schema", "length")),
    *map(_needs_setting, ("regex", "length"), ("pattern", "maxLength")),
    Rule(
        "hyperparameters.batchSize",
        lambda s: method_of(s) == "kto" and get(s, "hyperparameters.batchSize") == 1,
        f"!has(self.method) || self.method != 'kto' || !({has('hyperparameters.batchSize')})"
        " || self.hyperparameters.batchSize > 1",
        "is too small for method: kto, which compares the rows of a batch with each other; set it to 2 or more",
    ),
    Rule(
        "hyperparameters.autoBatchSize",
        lambda s: method_of(s) in ("kto", "grpo") and get(s, "hyperparameters.autoBatchSize") is True,
        f"!has(self.method) || !(self.method in ['kto', 'grpo']) || !({has('hyperparameters.autoBatchSize')})"
        " || !self.hyperparameters.autoBatchSize",
        "is not for method: kto, which compares the rows of a batch with each other, nor for method: grpo, whose batch "
        "is of answers that are not written yet; remove it",
    ),
    Rule(
        "hyperparameters.packing",
        lambda s: get(s, "hyperparameters.packing") is True and method_of(s) != "sft",
        f"!({has('hyperparameters.packing')}) || !self.hyperparameters.packing || {_SFT}",
        "is only for method: sft, since other methods compare whole answers; remove it",
    ),
    Rule(
        "trainOn",
        lambda s: s.get("trainOn") == "all" and method_of(s) != "sft",
        f"!has(self.trainOn) || self.trainOn != 'all' || {_SFT}",
        "is only for method: sft, since other methods compare answers; remove it",
    ),
    Rule(
        "selectiveLoss",
        lambda s: s.get("selectiveLoss") not in (None, "none") and method_of(s) != "sft",
        f"!has(self.selectiveLoss) || self.selectiveLoss == 'none' || {_SFT}",
        "is only for method: sft, since other methods compare whole answers; remove it",
    ),
    Rule(
        "backend",
        lambda s: s.get("backend") == "unsloth" and method_of(s) != "sft",
        f"!has(self.backend) || self.backend != 'unsloth' || {_SFT}",
        "is only for method: sft; use backend: transformers or remove it",
    ),
    Rule(
        "dpo.labelSmoothing",
        lambda s: bool(get(s, "dpo.labelSmoothing")) and get(s, "dpo.lossType") not in ("robust", "exo_pair"),
        f"!({has('dpo.labelSmoothing')}) || self.dpo.labelSmoothing == 0.0"
        f" || ({has('dpo.lossType')} && self.dpo.lossType in ['robust', 'exo_pair'])",
        "has an effect only with lossType: robust or exo_pair; set one of them or remove it",
    ),
    Rule(
        "dpo.lossType",
        lambda s: get(s, "dpo.lossType") == "exo_pair" and not get(s, "dpo.labelSmoothing"),
        f"!({has('dpo.lossType')}) || self.dpo.lossType != 'exo_pair'"
        f" || ({has('dpo.labelSmoothing')} && self.dpo.labelSmoothing > 0.0)",
        "needs labelSmoothing above 0; set it, for example to 0.001",
    ),
)
