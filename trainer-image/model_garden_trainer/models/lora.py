"""Which layers get an adapter: a pure choice by module names, the same for every backend."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from model_garden.contract.options import EffectiveLoraConfig
from model_garden.families import CONNECTOR_WORDS, NEVER_ADAPTED, VISION_MODULES
from model_garden_trainer.errors import TrainingError

CONNECTOR = re.compile("|".join(CONNECTOR_WORDS))
_HEADS = {"lm_head", "embed_out", "score", "classifier"}
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_OF_EXPERTS = {"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
_MLP = re.compile(r"mlp|feed_forward|ffn|experts", re.IGNORECASE)


def choose(
    linears: Collection[str], config: EffectiveLoraConfig, others: Collection[str] = ()
) -> tuple[list[str], str | None]:
    """Arguments for peft: last names of the modules to adapt, and a pattern of those of the same name to exclude.

    Args:
        linears: full names of all linear layers of the model.
        config: an effective ``loraConfig``.
        others: full names of all other modules, which are never adapted.

    Returns:
        ``target_modules`` and ``exclude_modules`` of ``peft.LoraConfig``.

    Raises:
        TrainingError: InvalidSpec where nothing matches; it lists names that exist.
    """
    wanted = [name for name in linears if _wanted(name, config)]
    if config.target_modules:
        missing = [target for target in config.target_modules if not any(_is(name, target) for name in wanted)]
        if missing:
            there = sorted({name.rpartition(".")[2] for name in linears if _wanted_kind(name, config)})
            raise TrainingError(
                "InvalidSpec",
                f"spec.loraConfig.targetModules: no layer is called {', '.join(map(repr, missing))} among those that "
                f"finetuneVisionLayers and finetuneLanguageLayers select; there are {', '.join(there) or 'none'}",
            )
    if not wanted:
        raise TrainingError(
            "InvalidSpec",
            "spec.loraConfig: the finetune… fields select no layer to train; the model has "
            + ", ".join(sorted({name.rpartition(".")[2] for name in linears})),
        )
    targets = sorted(config.target_modules or {name.rpartition(".")[2] for name in wanted})
    chosen = set(wanted)
    unwanted = [name for name in (*linears, *others) if name not in chosen and any(_is(name, t) for t in targets)]
    return targets, _excluding(wanted, unwanted)


def check_saved(whole: Sequence[str], modules: Collection[str], targets: Collection[str]) -> None:
    """See that ``modulesToSave`` names modules that exist and have no adapter.

    Raises:
        TrainingError: InvalidSpec.
    """
    missing = [name for name in whole if not any(_is(module, name) for module in modules)]
    if missing:
        there = sorted({name.rpartition(".")[2] for name in modules} & {*_HEADS, "embed_tokens", "norm"})
        raise TrainingError(
            "InvalidSpec",
            f"spec.loraConfig.modulesToSave: the model has no module {', '.join(map(repr, missing))}; there are "
            + ", ".join(there),
        )
    both = [
        name for name in whole if any(_is(module, name) and any(_is(module, t) for t in targets) for module in modules)
    ]
    if both:
        raise TrainingError(
            "InvalidSpec",
            f"spec.loraConfig.modulesToSave: {', '.join(both)} would get an adapter too; remove it here, or list "
            "other modules in targetModules",
        )


def layers(model: Any) -> tuple[list[str], list[str]]:
    """Full names of the linear layers of a model (quantized ones too), and of all its other modules.

    Of a mixture of experts whose experts are single parameters, the MLPs that are left count as other modules: peft
    takes their names for those of the experts (``_convert_peft_config_moe`` in 0.21) and would adapt these instead.
    """
    from torch.nn import Linear

    modules = dict(model.named_modules())
    linears = {name for name, module in modules.items() if isinstance(module, Linear) and not list(module.children())}
    if fused_experts(model):
        linears = {name for name in linears if name.rpartition(".")[2] not in _OF_EXPERTS}
    return [name for name in modules if name in linears], [name for name in modules if name and name not in linears]


def fused_experts(model: Any) -> bool:
    """Whether the experts of a mixture are single 3-D parameters, which get no adapter."""
    return any(parameter.dim() == 3 and ".experts." in name for name, parameter in model.named_parameters())


def pattern(targets: list[str], excluded: str | None) -> str:
    """The same choice as one pattern of full names, for a backend that takes no ``exclude_modules``."""
    names = "|".join(map(re.escape, targets))
    return (f"(?!(?:{excluded})$)" if excluded else "") + rf"(?:.*\.)?(?:{names})"


def _wanted(name: str, config: EffectiveLoraConfig) -> bool:
    if not _wanted_kind(name, config):
        return False
    if config.target_modules:
        return any(_is(name, target) for target in config.target_modules)
    parts = name.split(".")
    if CONNECTOR.search(name) or (_HEADS | NEVER_ADAPTED) & set(parts):
        return False
    inside = ".".join(parts[-3:])
    attention, mlp = bool(_ATTENTION.search(inside)), bool(_MLP.search(inside))
    if attention or mlp:
        return bool((attention and config.finetune_attention_modules) or (mlp and config.finetune_mlp_modules))
    return bool(re.search(r"\.\d+\.", name) and config.finetune_attention_modules and config.finetune_mlp_modules)


def _wanted_kind(name: str, config: EffectiveLoraConfig) -> bool:
    vision = bool(VISION_MODULES & set(name.split(".")))
    return bool(config.finetune_vision_layers if vision else config.finetune_language_layers)


def _is(name: str, target: str) -> bool:
    """As peft matches a target against a module's name."""
    return name == target or name.endswith("." + target)


def _excluding(wanted: list[str], unwanted: list[str]) -> str | None:
    """A pattern of the subtrees that hold unwanted modules and no wanted one: ``(model\\.visual)\\..*``."""
    if not unwanted:
        return None
    kept = {prefix for name in wanted for prefix in _prefixes(name)}
    around = "|".join(re.escape(name) for name in sorted(set(unwanted) & kept))  # modules that hold a wanted one
    roots = {next(prefix for prefix in _prefixes(name) if prefix not in kept) for name in set(unwanted) - kept}
    inside = "(" + "|".join(re.escape(root) for root in sorted(roots)) + r")(\..*)?" if roots else ""
    return f"{inside}|{around}" if inside and around else inside or around


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: length + 1]) for length in range(len(parts))]
