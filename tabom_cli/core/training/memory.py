"""An estimate of the GPU memory that a training step needs. Loads nothing; knows shapes only.

The activation formula counts what the backward pass of one layer keeps per token, in the compute
type: about 8 vectors of the hidden width and 3 of the MLP width. It was set against measured peaks of
a plain Dream-7B LoRA step at batch 8 x 512 on an H100 (about 176 KB per token and layer; the formula
gives 171 KB) and is good to about a fifth.
"""

from __future__ import annotations

from dataclasses import dataclass

_HIDDEN_COPIES = 8
_MLP_COPIES = 3
_LOGIT_COPIES = 4
_FRAMEWORK_BYTES = 1 << 30


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by purpose, on each GPU.

    Attributes:
        parameters: Base weights.
        adapter: Trainable weights.
        optimizer: Gradients and both AdamW moments, float32.
        activations: What the backward pass keeps, at the largest batch.
        logits: Float32 logits of the supervised rows and their gradients.
    """

    parameters: int
    adapter: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """Sum of the parts and about 1 GiB for the CUDA context and workspaces."""
        parts = self.parameters + self.adapter + self.optimizer + self.activations + self.logits
        return parts + _FRAMEWORK_BYTES

    def describe(self) -> str:
        """The estimate in GiB with its parts."""
        gib = 2**30
        return (
            f"about {self.total / gib:.1f} GiB: weights {self.parameters / gib:.1f}, "
            f"adapter and optimizer {(self.adapter + self.optimizer) / gib:.2f}, "
            f"activations {self.activations / gib:.1f}, logits {self.logits / gib:.1f}"
        )


def estimate(
    *,
    num_parameters: int,
    num_trainable: int,
    parameter_bytes: int,
    compute_bytes: int,
    full: bool,
    hidden_size: int,
    intermediate_size: int,
    num_layers: int,
    vocab_size: int,
    tokens: int,
    supervised: int,
    checkpointing: bool,
) -> MemoryEstimate:
    """Estimate a training step.

    Args:
        num_parameters: Parameters of the base.
        num_trainable: Parameters that get gradients.
        parameter_bytes: Bytes of one base parameter.
        compute_bytes: Bytes of one activation (2 under bf16 autocast).
        full: All base weights are trained; there is no adapter beside them.
        hidden_size: Hidden width D.
        intermediate_size: MLP width.
        num_layers: Decoder layers.
        vocab_size: Logits width V.
        tokens: Rows times length of one forward pass.
        supervised: Positions of one forward pass that reach the head.
        checkpointing: Only layer inputs are kept, one layer is recomputed at a time.
    """
    layer = compute_bytes * (_HIDDEN_COPIES * hidden_size + _MLP_COPIES * intermediate_size)
    if checkpointing:
        activations = tokens * (compute_bytes * hidden_size * num_layers + layer)
    else:
        activations = tokens * layer * num_layers
    return MemoryEstimate(
        parameters=num_parameters * parameter_bytes,
        adapter=0 if full else num_trainable * 4,
        optimizer=num_trainable * 12,
        activations=activations,
        logits=supervised * vocab_size * 4 * _LOGIT_COPIES,
    )
