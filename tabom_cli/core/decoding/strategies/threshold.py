"""Reveal every position whose token is probable enough, at least the best one (Fast-dLLM).

Differs from `decode.threshold`, which any strategy accepts, in that the probability is that of the
proposed token rather than of the best one, and in float64. Source: Fast-dLLM `generate.py`.
"""

from __future__ import annotations

from pydantic import Field
from torch import Generator, Tensor

from tabom_cli.core.config import Section
from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import CountsByRule, Ranked, at_least


class ThresholdOptions(Section):
    """Settings of `threshold`."""

    threshold: float = Field(0.9, gt=0.0, le=1.0)
    """Smallest probability that is revealed without being the best."""


class Threshold(CountsByRule):
    """Certainty is the unmodified probability of the proposed token."""

    Options = ThresholdOptions
    options: ThresholdOptions

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) float64 probabilities."""
        return candidates.token_probability_64

    def select(self, ranked: Ranked, quota: int | None, generator: Generator) -> Tensor:
        """Indices of all that reach the threshold, else of the best."""
        return at_least(ranked, self.options.threshold) if quota is None else ranked.order_n[:quota]


STRATEGY = Threshold
