"""What goes into a decode and what comes out: request, result, and what an observer sees.

Knows no model and no strategy.
Shape letters: B rows of the running batch, T response positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

NEVER = -1
"""Step and entropy of a position that was never decoded."""


@dataclass(frozen=True)
class DecodeRequest:
    """One answer to decode.

    Attributes:
        id: Names the row in results and errors.
        prompt_token_ids: Rendered prompt, not padded, at least one id.
        seed: Seeds the row's own generator; the answer is a function of model, prompt, config and it.
    """

    id: str
    prompt_token_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class DecodeResult:
    """One decoded answer with its record.

    Attributes:
        id: Id of the request.
        response_token_ids: T ids; never the mask id. Behind an early stop they are the pad id.
        decoding_order: T steps: 0-based index of the forward pass that revealed the position; -1 for
            positions behind an early stop.
        decoding_entropy: T entropies in nats of the model's unmodified prediction (float32,
            temperature 1, no filter, mask id included) just before the reveal; -1 where the order is.
        num_steps: Steps taken, those that revealed nothing included.
        num_forwards: Forward passes that this row needed: steps less those that could reveal nothing.
            It does not depend on batch mates.
    """

    id: str
    response_token_ids: list[int]
    decoding_order: list[int]
    decoding_entropy: list[float]
    num_steps: int
    num_forwards: int


@dataclass(frozen=True, eq=False)
class StepView:
    """The running batch around one forward pass; all tensors on the CPU, safe to keep.

    Attributes:
        request_ids: Row names, B of them; rows come and go between steps.
        step_B: (B,) int64, each row's own 0-based step.
        canvas_BT: (B, T) int64 response ids, the mask id where undecided.
        masked_BT: (B, T) bool, True where undecided.
        entropy_BT: (B, T) float32 raw entropy in nats of this forward, NaN where not masked.
    """

    request_ids: tuple[str, ...]
    step_B: Tensor
    canvas_BT: Tensor
    masked_BT: Tensor
    entropy_BT: Tensor


class Observer(Protocol):
    """Watches a decode; with one attached no step is skipped and all entropies are computed."""

    def before_reveal(self, view: StepView) -> None:
        """See the state that went into the forward pass."""
        ...

    def after_reveal(self, view: StepView) -> None:
        """See the same rows after the step's reveals; entropies of revealed positions are NaN."""
        ...
