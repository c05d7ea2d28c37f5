"""``spec.hyperparameters``. A field has the name of the Hugging Face ``TrainingArguments`` field, if there is one."""

from __future__ import annotations

from typing import Literal

from model_garden.contract.declaration import Default, declare
from model_garden.contract.model import ContractModel

LrSchedulerType = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]
Optim = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd", "lion_8bit", "lion_32bit"
]


class Hyperparameters(ContractModel):
    """The hyperparameters as a user gives them. A new one also gets its type in ``EffectiveHyperparameters``."""

    learning_rate: float | None = declare(
        "Peak learning rate.",
        Default(
            2e-4,
            vision=2e-5,
            large_vision=1e-5,
            methods={"dpo": 5e-6, "kto": 5e-6, "orpo": 8e-5, "grpo": 1e-5},
            full=1e-5,
        ),
        shapes_weights=True,
        gt=0,
        le=1,
    )
    embedding_learning_rate: float | None = declare(
        "Peak learning rate of embeddings and output layer, if they are trained: with adapter: none, or if "
        "loraConfig.modulesToSave names them.",
        shapes_weights=True,
        default_words="learningRate",
        gt=0,
        le=1,
    )
    num_epochs: float | None = declare("Passes over the data set.", 3, shapes_weights=True, gt=0, le=10_000)
    max_steps: int | None = declare(
        "Optimizer steps to train; -1 trains for numEpochs.", -1, shapes_weights=True, ge=-1
    )
    batch_size: int | None = declare(
        "Micro-batch size per GPU, in rows.",
        Default(2, vision=1, methods={"kto": 2}),
        shapes_weights=True,
        ge=1,
        le=4096,
    )
    gradient_accumulation_steps: int | None = declare(
        "Micro-batches per optimizer step.",
        Default(4, vision=8, large_vision=16),
        shapes_weights=True,
        ge=1,
        le=65_536,
    )
    auto_batch_size: bool | None = declare(
        "Use the largest micro-batch that fits into memory. batchSize x gradientAccumulationSteps stays the same.",
        Default(False, gpu=True, methods={"kto": False, "grpo": False}),
        shapes_weights=False,
    )
    warmup_steps: float | None = declare(
        "Optimizer steps of learning rate warmup. A value below 1 is a share of all steps. The last step never "
        "belongs to the warmup.",
        0.03,
        shapes_weights=True,
        ge=0,
    )
    weight_decay: float | None = declare("Weight decay.", 0.01, shapes_weights=True, ge=0, le=1)
    lr_scheduler_type: LrSchedulerType | None = declare(
        "Learning rate schedule.", Default("linear", vision="cosine"), shapes_weights=True
    )
    optim: Optim | None = declare("Optimizer.", Default("adamw_torch", gpu="adamw_torch_fused"), shapes_weights=True)
    max_seq_length: int | None = declare(
        "Longest row in tokens, image tokens included. A longer row fails the job.",
        Default(2048, vision=4096),
        shapes_weights=True,
        ge=16,
        le=4_194_304,
    )
    seed: int | None = declare(
        "Random seed of shuffling, dropout and adapter initialization.",
        42,
        shapes_weights=True,
        ge=0,
        le=4_294_967_295,
    )
    logging_steps: int | None = declare("Steps between two progress reports.", 1, shapes_weights=False, ge=1)
    save_steps: int | None = declare("Steps between two checkpoints.", 100, shapes_weights=False, ge=1)
    save_total_limit: int | None = declare("Checkpoints to keep.", 2, shapes_weights=False, ge=1, le=1000)
    eval_steps: int | None = declare(
        "Steps between two evaluations.",
        shapes_weights=True,
        default_words="100 when there is validation data",
        ge=1,
    )
    early_stopping_patience: int | None = declare(
        "Training stops early after this many evaluations in a row without a lower loss.",
        shapes_weights=True,
        default_words="no early stopping",
        ge=1,
    )
    max_grad_norm: float | None = declare(
        "Norm to which gradients are clipped; 0 disables clipping.", 1.0, shapes_weights=True, ge=0
    )
    packing: bool | None = declare(
        "Put several rows into one sequence. The tokens of a row attend only to tokens of the same row.",
        False,
        shapes_weights=True,
    )


class EffectiveHyperparameters(Hyperparameters):
    """The hyperparameters with every default applied."""

    learning_rate: float
    num_epochs: float
    max_steps: int
    batch_size: int
    gradient_accumulation_steps: int
    auto_batch_size: bool
    warmup_steps: float
    weight_decay: float
    lr_scheduler_type: LrSchedulerType
    optim: Optim
    max_seq_length: int
    seed: int
    logging_steps: int
    save_steps: int
    save_total_limit: int
    max_grad_norm: float
    packing: bool
