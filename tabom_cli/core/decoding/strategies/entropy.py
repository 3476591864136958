"""Reveal the positions whose predictive distribution has the lowest entropy (Dream `entropy`).

Source: Dream-v0-Instruct-7B generation, alg="entropy"; the entropy here is exact, without the 1e-10.
"""

from __future__ import annotations

from torch import Tensor

from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import Strategy
from tabom_cli.core.numerics import entropy


class Entropy(Strategy):
    """Certainty is the negative entropy of the ranking distribution, in nats."""

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) float32 negative entropies."""
        return -entropy(candidates.ranking_log_probs)


STRATEGY = Entropy
