"""Candidate tokens for masked positions and the distributions they come from.

Turns logits of selected positions into tokens; does not know which positions get revealed.
Shape letters: N selected positions, V vocabulary.
"""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.numerics import draw_gumbel, draw_tokens, filter_top_p_top_k, log_probs


class Candidates:
    """The proposal at N positions: tokens, and the distributions that certainty rules read.

    Distributions are computed on first use, so a rule pays only for what it reads.

    Attributes:
        logits_NV: (N, V) float32, the model's own, -inf at ids that must never come out.
    """

    def __init__(self, logits_NV: Tensor, config: DecodeConfig, *, ranks_raw: bool = False) -> None:
        """Wrap the logits.

        Args:
            logits_NV: (N, V) float32 with forbidden ids at -inf.
            config: Temperatures and filters.
            ranks_raw: What `confidence_temperature: null` means: the unmodified distribution (True)
                or the tempered and filtered proposal distribution (False, as in Dream's release).
        """
        self.logits_NV = logits_NV
        self._config = config
        temperature = config.confidence_temperature
        self._ranking_temperature = 1.0 if temperature is None and ranks_raw else temperature

    @cached_property
    def proposal_logits(self) -> Tensor:
        """(N, V) logits that tokens are drawn from: tempered, then top-p, then top-k."""
        logits_NV = self.logits_NV
        if self._config.temperature not in (0.0, 1.0):
            logits_NV = logits_NV / self._config.temperature
        return filter_top_p_top_k(logits_NV, self._config.top_p, self._config.top_k)

    @cached_property
    def proposal_log_probs(self) -> Tensor:
        """(N, V) log-probabilities that tokens are drawn from."""
        return log_probs(self.proposal_logits)

    @cached_property
    def raw_log_probs(self) -> Tensor:
        """(N, V) log-probabilities at temperature 1 without a filter."""
        return log_probs(self.logits_NV)

    @cached_property
    def ranking_log_probs(self) -> Tensor:
        """(N, V) log-probabilities that rank positions (`confidence_temperature`)."""
        if self._ranking_temperature is None:
            return self.proposal_log_probs
        if self._ranking_temperature == 1.0:
            return self.raw_log_probs
        return log_probs(self._ranking_logits)

    @property
    def _ranking_logits(self) -> Tensor:
        if self._ranking_temperature is None:
            return self.proposal_logits
        return self.logits_NV / self._ranking_temperature

    @cached_property
    def tokens(self) -> Tensor:
        """(N,) int64 the proposed tokens; the most probable ones until `draw` replaces them."""
        return self.logits_NV.argmax(dim=-1)

    @property
    def token_probability(self) -> Tensor:
        """(N,) probability of the proposed token under the ranking distribution."""
        return self.ranking_log_probs.gather(-1, self.tokens[:, None])[:, 0].exp()

    @property
    def token_probability_64(self) -> Tensor:
        """(N,) the same in float64, which still tells apart tokens that are all but certain."""
        log_probs_NV = log_probs(self._ranking_logits.double())
        return log_probs_NV.gather(-1, self.tokens[:, None])[:, 0].exp()

    @property
    def top_probability(self) -> Tensor:
        """(N,) largest raw probability, which `decode.threshold` is compared with."""
        return self.raw_log_probs.amax(dim=-1).exp()

    def draw(self, noise_N: Tensor, *, gumbel: bool) -> None:
        """Replace the tokens by draws from the proposal distribution, in float64.

        Args:
            noise_N: (N,) float64 uniforms for the inverse CDF, or int64 seeds of the Gumbel noise.
            gumbel: Which of the two.
        """
        if gumbel:
            self.tokens = draw_gumbel(self.proposal_logits, noise_N)
        else:
            self.tokens = draw_tokens(self.proposal_log_probs.exp(), noise_N)


def draws_tokens(config: DecodeConfig) -> bool:
    """Whether tokens are drawn at random; temperature 0 always takes the most probable ones."""
    return config.token_pick == "sample" and config.temperature > 0.0
