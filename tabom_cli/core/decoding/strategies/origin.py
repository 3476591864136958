"""Reveal each masked position independently with the schedule's chance (Dream `origin`).

Needs no certainty, so the positions are drawn before the forward pass and only they reach the head.
Source: Dream-v0-Instruct-7B generation, alg="origin".
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import Strategy

_AT_RANDOM = "positions are drawn independently with chance 1 - s/t"


class Origin(Strategy):
    """Positions at random, tokens from the proposal distribution."""

    ignored_settings: ClassVar = {
        "tokens_per_step": _AT_RANDOM,
        "threshold": _AT_RANDOM,
        "alg_temp": _AT_RANDOM,
    }

    @classmethod
    def conflicts(cls, config: DecodeConfig) -> list[str]:
        """Settings without effect; end tokens cannot be put last in a random order."""
        found = super().conflicts(config)
        if config.eos_suppression == "confidence":
            found.append(f"decode.eos_suppression 'confidence' has no effect: {_AT_RANDOM}")
        return found

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) zeros: every position that was drawn is revealed."""
        return torch.zeros_like(candidates.tokens, dtype=torch.float32)

    def preselect(self, num_masked: int, share: float, generator: Generator) -> Tensor | None:
        """Indices of the positions drawn with chance `share`; all when it is 1."""
        drawn = torch.rand(num_masked, generator=generator, dtype=torch.float64) < share
        return drawn.nonzero()[:, 0]


STRATEGY = Origin
