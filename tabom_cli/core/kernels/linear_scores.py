"""Cross-entropy and entropy straight from hidden states, without logits of the whole vocabulary.

The head is applied in vocabulary chunks, forward and again backward, so that memory grows with the
chunk and not with V. Does not know who needs the scores.

Source: the streaming sums follow the usual online softmax; gradients are
dCE/dz_v = p_v - [v = y] and dH/dz_v = -p_v (log p_v + H).

Shape letters: N positions, D hidden width, V vocabulary, C chunk.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tabom_cli.core import numerics

CHUNK_SIZE = 16384
"""Vocabulary rows per chunk: 256 positions need 16 MiB of float32 for each of a few buffers."""


def linear_scores_reference(
    hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor
) -> tuple[Tensor, Tensor]:
    """The plain formula: all logits, then CE = -log p_y and H = -sum p log p.

    Args:
        hidden_ND: Hidden states.
        head_VD: Head weights, same dtype.
        targets_N: Token ids.

    Returns:
        Cross-entropy (N,) and entropy (N,) in nats, float32 or, for float64 input, float64.
    """
    log_probs_NV = numerics.log_probs(hidden_ND @ head_VD.t())
    return -log_probs_NV.gather(1, targets_N[:, None])[:, 0], numerics.entropy(log_probs_NV)


def linear_scores(
    hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, *, chunk_size: int = CHUNK_SIZE
) -> tuple[Tensor, Tensor]:
    """The same two numbers in vocabulary chunks, differentiable in both arguments.

    Equals `linear_scores_reference`. The head's gradient is computed only when it is trained. Logits of a
    chunk have the dtype of the inputs, as a model's head gives them, and are widened afterwards.

    Args:
        hidden_ND: Hidden states; N may be zero.
        head_VD: Head weights, same dtype.
        targets_N: Token ids.
        chunk_size: C, rows of the head per chunk.

    Returns:
        Cross-entropy (N,) and entropy (N,) in nats, float32 or, for float64 input, float64.
    """
    cross_entropy, entropy = _LinearScores.apply(hidden_ND, head_VD, targets_N, chunk_size)
    return cross_entropy, entropy


class _LinearScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, chunk_size: int
    ) -> tuple[Tensor, Tensor]:
        num = hidden_ND.shape[0]
        dtype = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
        top_N = torch.full((num,), -math.inf, dtype=dtype, device=hidden_ND.device)
        mass_N = top_N.new_zeros(num)
        moment_N = top_N.new_zeros(num)
        target_logit_N = top_N.new_zeros(num)
        for start in range(0, head_VD.shape[0], chunk_size):
            logits_NC = _chunk_logits(hidden_ND, head_VD, start, chunk_size, dtype)
            new_top_N = torch.maximum(top_N, logits_NC.amax(dim=1))
            # mass = sum e^(z - top), moment = sum e^(z - top) (z - top), both moved to the new top.
            shift_N = torch.where(mass_N > 0, top_N - new_top_N, 0.0)
            scale_N = shift_N.exp()
            moment_N = scale_N * (moment_N + shift_N * mass_N)
            mass_N = scale_N * mass_N
            centred_NC = logits_NC - new_top_N[:, None]
            weight_NC = centred_NC.exp()
            mass_N = mass_N + weight_NC.sum(dim=1)
            # A forbidden token has weight 0 and logit -inf; its product is 0.
            moment_N = moment_N + (weight_NC * centred_NC.masked_fill(weight_NC == 0, 0.0)).sum(1)
            top_N = new_top_N
            inside_N, local_N1 = _inside(targets_N, start, logits_NC.shape[1])
            found_N = logits_NC.gather(1, local_N1)[:, 0]
            target_logit_N = torch.where(inside_N, found_N, target_logit_N)
        log_mass_N = top_N + mass_N.log()
        entropy_N = mass_N.log() - moment_N / mass_N
        ctx.save_for_backward(hidden_ND, head_VD, targets_N, log_mass_N, entropy_N)
        ctx.chunk_size = chunk_size
        return log_mass_N - target_logit_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden_ND, head_VD, targets_N, log_mass_N, entropy_N = ctx.saved_tensors
        grad_ce_N, grad_entropy_N = grads
        need_hidden, need_head = ctx.needs_input_grad[:2]
        dtype = log_mass_N.dtype
        grad_hidden = torch.zeros_like(hidden_ND, dtype=dtype) if need_hidden else None
        grad_head = torch.zeros_like(head_VD) if need_head else None
        for start in range(0, head_VD.shape[0], ctx.chunk_size):
            logits_NC = _chunk_logits(hidden_ND, head_VD, start, ctx.chunk_size, dtype)
            log_probs_NC = logits_NC - log_mass_N[:, None]
            probs_NC = log_probs_NC.exp()
            surprise_NC = log_probs_NC.masked_fill(probs_NC == 0, 0.0) + entropy_N[:, None]
            grad_NC = probs_NC * (grad_ce_N[:, None] - grad_entropy_N[:, None] * surprise_NC)
            inside_N, local_N1 = _inside(targets_N, start, logits_NC.shape[1])
            taken_N1 = torch.where(inside_N, -grad_ce_N, 0.0)[:, None]
            grad_NC.scatter_add_(1, local_N1, taken_N1.to(dtype))
            head_CD = head_VD[start : start + ctx.chunk_size]
            if grad_hidden is not None:
                grad_hidden += grad_NC.to(head_VD.dtype) @ head_CD
            if grad_head is not None:
                grad_head[start : start + ctx.chunk_size] = (
                    grad_NC.to(head_VD.dtype).t() @ hidden_ND
                )
        if grad_hidden is not None:
            grad_hidden = grad_hidden.to(hidden_ND.dtype)
        return grad_hidden, grad_head, None, None


def _chunk_logits(
    hidden_ND: Tensor, head_VD: Tensor, start: int, chunk_size: int, dtype: torch.dtype
) -> Tensor:
    return (hidden_ND @ head_VD[start : start + chunk_size].t()).to(dtype)


def _inside(targets_N: Tensor, start: int, size: int) -> tuple[Tensor, Tensor]:
    """Which targets lie in the chunk, and their column there (0 for the others)."""
    local_N = targets_N - start
    inside_N = (local_N >= 0) & (local_N < size)
    return inside_N, torch.where(inside_N, local_N, 0)[:, None]
