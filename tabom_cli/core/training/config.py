"""The settings of training. Imports no tensor library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tabom_cli.core.config import FloatPair, Section


class LaunchConfig(Section):
    """How processes are started."""

    num_processes: int | None = Field(None, ge=1)
    """Processes on this machine; null takes one per visible GPU, or one without GPUs."""
    accelerate_args: dict[str, str | int] = Field(default_factory=dict)
    """More `accelerate launch` arguments by name, e.g. num_machines, machine_rank, main_process_ip."""


class TrainConfig(Section):
    """The optimisation, which is the same on any number of GPUs."""

    epochs: int = Field(5, ge=1)
    """Passes over the data."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many optimizer steps; the schedule ends there too."""
    global_batch_size: int = Field(32, ge=1)
    """Rows per optimizer step over all processes; accumulation makes up for fewer GPUs."""
    micro_batch_size: int = Field(8, ge=1)
    """Rows per forward pass on one process."""
    learning_rate: float = Field(2e-5, gt=0.0)
    """Peak learning rate."""
    betas: FloatPair = (0.9, 0.999)
    """AdamW moment decay."""
    eps: float = Field(1e-8, gt=0.0)
    """AdamW denominator offset."""
    weight_decay: float = Field(0.01, ge=0.0)
    """AdamW decoupled weight decay."""
    max_grad_norm: float = Field(1.0, gt=0.0)
    """Gradient norm limit."""
    warmup_steps: int = Field(50, ge=0)
    """Linear warm-up in optimizer steps."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after warm-up."""
    precision: Literal["bf16", "float32"] = "bf16"
    """Autocast type of the forward pass; adapter and optimizer stay float32."""
    gradient_checkpointing: bool = False
    """Recompute layers in the backward pass: less memory, about 1.5 times the time."""
    deterministic: bool = True
    """Ask PyTorch for deterministic kernels."""
    validation_fraction: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of rows held out for validation loss and ranking accuracy per epoch."""
    save_every: int | None = Field(None, ge=1)
    """Optimizer steps between resumable states; null saves a state per epoch."""
    prepare_workers: int = Field(0, ge=0)
    """Processes that mask rows ahead; 0 does it between steps. Changes speed only."""
    log_every: int = Field(1, ge=1)
    """Optimizer steps between lines in metrics.jsonl."""
    tracker: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """Experiment tracker, through accelerate."""
    output_dir: str = "checkpoints"
    """Runs are written to <output_dir>/<recipe name>/train_<timestamp>."""
    launch: LaunchConfig = Field(default_factory=LaunchConfig)
    """How processes are started."""

    @model_validator(mode="after")
    def _divides(self) -> TrainConfig:
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide "
                f"global_batch_size {self.global_batch_size}"
            )
        return self
