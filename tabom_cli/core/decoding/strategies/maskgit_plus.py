"""Reveal the positions whose proposed token is the most probable (Dream `maskgit_plus`).

Source: Dream-v0-Instruct-7B generation, alg="maskgit_plus".
"""

from __future__ import annotations

from torch import Tensor

from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import Strategy


class MaskgitPlus(Strategy):
    """Certainty is the ranking probability of the proposed token."""

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) float32 probabilities."""
        return candidates.token_probability


STRATEGY = MaskgitPlus
