"""What every objective is: a module that prepares masked states and turns them into loss sums.

Knows nothing about files, recipes, decoding or how many processes train.

Shape letters: B batch, L sequence (left-padded prompt + response), N supervised positions, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from tabom_cli.core.config import Section
from tabom_cli.core.data.batch import Batch
from tabom_cli.core.models.base import Policy


@dataclass(frozen=True)
class PartialState:
    """One masked state per row: what the network sees and which positions are scored.

    Attributes:
        input_ids: (B, L) int64 with masks.
        attention_mask: (B, L) bool.
        targets: (B, L) int64, the clean tokens.
        supervised_mask: (B, L) bool, positions whose cross-entropy counts.
        counts: Denominators of this micro-batch by term name, summed over the global batch by the
            loop before any backward pass.
        extras: Tensors with leading dimension B that only the objective reads.
        sample_ids: B row ids, named when a loss is not finite.
    """

    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor
    supervised_mask: Tensor
    counts: Mapping[str, float]
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    sample_ids: tuple[str, ...] = ()

    def to(self, device: torch.device) -> PartialState:
        """The same state on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            targets=self.targets.to(device),
            supervised_mask=self.supervised_mask.to(device),
            extras={name: tensor.to(device) for name, tensor in self.extras.items()},
        )


@dataclass(frozen=True)
class LossTerms:
    """Sums that the loop divides by global counts.

    The loss of a global batch is `sum_k weights[k] * sums[k] / counts[k]`, where sums and counts are
    totals over all micro-batches and processes and a term with count zero is zero.

    Attributes:
        sums: Scalar tensors with gradient by term name; every term is present in every micro-batch
            (zero, but connected to the graph, when nothing counts), so that all ranks agree.
        metrics: Name to (sum, count), both detached scalars, for logging only.
    """

    sums: Mapping[str, Tensor]
    metrics: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Objective(nn.Module):
    """Base of all objectives.

    Subclasses own a `Config` section, say what data they need, and implement two calls: `prepare`
    draws the masks (cheap, no model), `forward` scores them. The draw itself and what follows from
    it are two functions of each subclass, so that a recorded draw can be replayed.

    Args:
        config: The section of the recipe, an instance of `Config`.
    """

    Config: ClassVar[type[Section]]
    needs_order: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    needs_reward: ClassVar[bool] = False

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Factor of each term in the total loss."""

    @abstractmethod
    def prepare(
        self, batch: Batch, generators: Sequence[torch.Generator], mask_token_id: int
    ) -> PartialState:
        """Mask a batch.

        Args:
            batch: Clean rows, on the CPU.
            generators: One CPU generator per row, seeded from (seed, epoch, sample id).
            mask_token_id: The id that hides a token.

        Returns:
            The state, still on the CPU, with its counts.
        """

    @abstractmethod
    def forward(
        self, state: PartialState, policy: Policy, reference: Policy | None = None
    ) -> LossTerms:
        """Score a masked state; only supervised positions reach the language-model head."""


def combine(
    terms: Mapping[str, Tensor], counts: Mapping[str, float], weights: Mapping[str, float]
) -> Tensor:
    """The total loss of `LossTerms`: weighted sums over counts, zero-count terms times zero.

    Args:
        terms: Scalar sums of one micro-batch by term name.
        counts: Denominators of the global batch by term name.
        weights: `Objective.weights`.

    Returns:
        Scalar with gradient. Over the micro-batches of a global batch these add up to its loss.
    """
    parts = [
        weights[name] * value / counts[name] if counts[name] else value * 0.0
        for name, value in terms.items()
    ]
    return torch.stack(parts).sum()
