"""The settings that every training method hands to transformers, whatever class holds them."""

from __future__ import annotations

from typing import Any

import torch

from model_garden.contract.hyperparameters import EffectiveHyperparameters


def arguments(
    h: EffectiveHyperparameters,
    *,
    checkpoints: str,
    evaluated: bool,
    micro_batch: int,
    eval_batch: int,
    accumulation: int,
    workers: int,
    some_may_be_unused: bool | None = True,
) -> dict[str, Any]:
    """Keyword arguments of ``transformers.TrainingArguments`` and of TRL's config classes, which extend it.

    Every setting that changes the result is written out: libraries have changed their defaults before.

    Args:
        h: the effective hyperparameters.
        checkpoints: the folder of the checkpoints.
        evaluated: whether there are rows to evaluate on.
        micro_batch, eval_batch: rows that one process takes at once.
        accumulation: micro-batches of one optimizer step.
        workers: processes that make batches.
        some_may_be_unused: whether a process may skip adapters that another one trains, such as those of a vision
            tower in rows without images; None lets the backend's own Trainer decide.
    """
    return {
        **_optimization(h),
        **_checkpoints_and_evaluation(h, checkpoints, evaluated=evaluated),
        **_reports(),
        **precision(gpu=torch.cuda.is_available()),
        "per_device_train_batch_size": micro_batch,
        "per_device_eval_batch_size": eval_batch,
        "gradient_accumulation_steps": accumulation,
        "dataloader_num_workers": workers,
        "dataloader_persistent_workers": workers > 0,  # the imports of a new worker take seconds
        "dataloader_pin_memory": torch.cuda.is_available(),
        "accelerator_config": {"non_blocking": torch.cuda.is_available()},  # copies of pinned memory
        "dataloader_drop_last": False,
        "label_names": ["labels"],
        "remove_unused_columns": False,
        "average_tokens_across_devices": True,
        "ddp_find_unused_parameters": some_may_be_unused,
        "gradient_checkpointing": False,  # the backend switches it on with the adapters
    }


def _optimization(h: EffectiveHyperparameters) -> dict[str, Any]:
    return {
        "num_train_epochs": h.num_epochs,
        "max_steps": h.max_steps,
        "learning_rate": h.learning_rate,
        "warmup_steps": h.warmup_steps,
        "weight_decay": h.weight_decay,
        "lr_scheduler_type": h.lr_scheduler_type,
        "optim": h.optim,
        "max_grad_norm": h.max_grad_norm,
        "seed": h.seed,
        "data_seed": h.seed,
    }


def _checkpoints_and_evaluation(h: EffectiveHyperparameters, folder: str, *, evaluated: bool) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "save_strategy": "steps",
        "save_steps": h.save_steps,
        "save_total_limit": None,  # checkpoints.prune removes older ones after a newer one is sealed
        "eval_strategy": "steps" if evaluated else "no",
        "eval_steps": h.eval_steps if evaluated else None,
        "metric_for_best_model": "eval_loss" if evaluated else None,
        "greater_is_better": False if evaluated else None,
        "prediction_loss_only": True,
    }


def _reports() -> dict[str, Any]:
    """Nothing of the library's: callbacks report."""
    return {
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "push_to_hub": False,
        "disable_tqdm": True,
    }


def precision(*, gpu: bool) -> dict[str, bool]:
    """The precision of the computation.

    On a GPU, autocast computes in bfloat16; adapters, their gradients and the optimizer stay in float32. On a CPU, the
    model computes in the dtype of its weights.
    """
    return {"use_cpu": not gpu, "bf16": gpu, "fp16": False}
