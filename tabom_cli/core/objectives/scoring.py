"""Cross-entropy and entropy of selected tokens, exactly or as the release computed them.

The head runs on the supervised positions only. Does not know which objective uses the scores.

Shape letters: B batch, L sequence, N supervised positions in row-major order, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tabom_cli.core import numerics
from tabom_cli.core.models.base import Policy
from tabom_cli.core.objectives.base import PartialState

RELEASE_LOG_OFFSET = 1e-10
"""Added to probabilities inside the release's entropy logarithm."""


@dataclass(frozen=True)
class TokenScores:
    """What the losses need to know about each supervised token.

    Attributes:
        cross_entropy: (N,) -log p(target), nats.
        entropy: (N,) entropy of the whole distribution, nats.
    """

    cross_entropy: Tensor
    entropy: Tensor


def supervised_logits(state: PartialState, policy: Policy) -> Tensor:
    """(N, V) logits of the supervised positions, at least float32; N may be zero.

    With no supervised position the forward pass still runs and the empty result is part of the
    graph, so that every process of a group takes the same collective calls.
    """
    hidden_BLD = policy.hidden(state.input_ids, state.attention_mask)
    logits_NV = policy.logits(hidden_BLD[state.supervised_mask])
    return logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()


def exact_scores(logits_NV: Tensor, targets_N: Tensor, *, entropy_grad: bool) -> TokenScores:
    """Scores from `log_softmax`: CE = -log p_y, H = -sum p log p with 0 log 0 = 0.

    Args:
        logits_NV: Logits, float32 or float64; -inf is a forbidden token.
        targets_N: Clean token ids.
        entropy_grad: False leaves the entropy out of the graph, for objectives that only log it.
    """
    log_probs_NV = numerics.log_probs(logits_NV)
    with torch.set_grad_enabled(entropy_grad and torch.is_grad_enabled()):
        entropy_N = numerics.entropy(log_probs_NV)
    return TokenScores(_cross_entropy(log_probs_NV, targets_N), entropy_N)


def release_scores(logits_NV: Tensor, targets_N: Tensor, *, entropy_grad: bool) -> TokenScores:
    """Scores with the release's arithmetic: H = -sum p log(p + 1e-10) on sanitised logits.

    NaN becomes 0 and infinities +-1e4 (without gradient) before anything else, so that a broken
    forward pass goes unnoticed; only for comparison with published checkpoints.
    """
    logits_NV = torch.nan_to_num(logits_NV, nan=0.0, posinf=1e4, neginf=-1e4)
    log_probs_NV = numerics.log_probs(logits_NV)
    with torch.set_grad_enabled(entropy_grad and torch.is_grad_enabled()):
        probs_NV = functional.softmax(logits_NV, dim=-1)
        entropy_N = -(probs_NV * (probs_NV + RELEASE_LOG_OFFSET).log()).sum(dim=-1)
    return TokenScores(_cross_entropy(log_probs_NV, targets_N), entropy_N)


def _cross_entropy(log_probs_NV: Tensor, targets_N: Tensor) -> Tensor:
    return functional.nll_loss(log_probs_NV, targets_N, reduction="none")
