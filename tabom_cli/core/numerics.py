"""Log-probabilities, entropy, top-p/top-k and token draws: the only place that computes them.

Knows no model, no config and no recipe. Shape letters: N selected positions, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB
_MIX_1 = -0x40A7B892E31B1A47
_MIX_2 = -0x6B2FB644ECCEEE15


def log_probs(logits: Tensor) -> Tensor:
    """Log-softmax over the last dimension in float32, whatever dtype the logits have.

    Args:
        logits: (..., V), any float dtype; -inf marks an id that cannot be chosen.

    Returns:
        (..., V) float32, or float64 for float64 logits.
    """
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return torch.log_softmax(logits, dim=-1, dtype=dtype)


def entropy(log_probs_NV: Tensor) -> Tensor:
    """Entropy -sum(p log p) in nats, where an impossible id (log p = -inf) counts exactly zero.

    Args:
        log_probs_NV: (..., V) log-probabilities.

    Returns:
        (...,) in the dtype of the input, never negative.
    """
    # Not in place: the ranking loss differentiates through this.
    weighted = log_probs_NV.exp() * log_probs_NV.masked_fill(log_probs_NV == -math.inf, 0.0)
    return (0.0 - weighted.sum(dim=-1)).clamp(min=0.0)


def filter_top_p_top_k(logits: Tensor, top_p: float | None, top_k: int | None) -> Tensor:
    """Logits with the ids outside top-p, then outside top-k, set to -inf.

    top-p keeps the shortest prefix of the descending probabilities whose sum exceeds `top_p`, always
    the first; equal logits are cut by lowest id first. top-k keeps every id that ties with the k-th.

    Args:
        logits: (N, V) float32.
        top_p: In (0, 1]; None or 1 keeps everything.
        top_k: At least 1; None keeps everything.

    Returns:
        (N, V), the input itself when nothing is filtered.

    Source: DreamGenerationMixin (`top_p_logits`, `top_k_logits`) of Dream-v0-Instruct-7B.
    """
    if top_p is not None and top_p < 1.0:
        descending, ids = torch.sort(logits, dim=-1, descending=True, stable=True)
        removed = running_sum(torch.softmax(descending, dim=-1)) > top_p
        removed[..., 1:] = removed[..., :-1].clone()
        removed[..., 0] = False
        logits = logits.masked_fill(torch.zeros_like(removed).scatter_(-1, ids, removed), -math.inf)
    if top_k is not None and top_k < logits.shape[-1]:
        smallest_kept = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -math.inf)
    return logits


def draw_tokens(probs_NV: Tensor, uniforms_N: Tensor) -> Tensor:
    """One id per row by inverting the cumulative distribution in float64.

    Row n gets the first id whose cumulative probability exceeds `uniforms_N[n]` times the row's sum, so
    a draw depends on nothing but its own row and its own number.

    Args:
        probs_NV: (N, V) non-negative, need not sum to one exactly.
        uniforms_N: (N,) float64 in [0, 1), same device.

    Returns:
        (N,) int64; an id of probability zero is never drawn.
    """
    cumulative = running_sum(probs_NV.double())
    targets = uniforms_N.double()[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, targets, right=True)[:, 0]
    # u * total can round up to total itself; the last possible id is the one meant then.
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous(), right=False)[:, 0]
    return torch.minimum(drawn, last)


def running_sum(values_NV: Tensor) -> Tensor:
    """(N, V) cumulative sums over the last dimension, also where PyTorch has no repeatable kernel.

    Equals `values_NV.cumsum(dim=-1)`, which CUDA refuses under `torch.use_deterministic_algorithms`.
    """
    if values_NV.is_cuda and torch.are_deterministic_algorithms_enabled():
        return blocked_running_sum(values_NV)
    return values_NV.cumsum(dim=-1)


def blocked_running_sum(values_NV: Tensor, *, block: int = 128) -> Tensor:
    """(N, V) cumulative sums from matrix products: within blocks, and of the blocks' totals.

    Equals `values_NV.cumsum(dim=-1)` up to rounding.

    Args:
        values_NV: Any float dtype.
        block: Columns per block.
    """
    rows, columns = values_NV.shape
    padded = torch.nn.functional.pad(values_NV, (0, -columns % block)).view(rows, -1, block)
    # Column j of the triangle adds up the entries 0..j.
    triangle = torch.ones(block, block, dtype=padded.dtype, device=padded.device).triu()
    inside = padded @ triangle
    blocks = inside.shape[1]
    before = torch.ones(blocks, blocks, dtype=padded.dtype, device=padded.device).triu(1)
    return (inside + (inside[..., -1] @ before)[..., None]).flatten(1)[:, :columns]


def draw_gumbel(logits_NV: Tensor, seeds_N: Tensor) -> Tensor:
    """One id per row as the argmax of logits plus Gumbel noise, in float64.

    With z = logits / temperature this is LLaDA's argmax of exp(logits) / (-log u)^temperature. The noise
    is a function of (seed, id) alone (a SplitMix64 stream per row, integer arithmetic), so it is the
    same on every device and in every batch.

    Args:
        logits_NV: (N, V), already divided by the temperature; -inf is never chosen.
        seeds_N: (N,) int64, one per row, same device.

    Returns:
        (N,) int64.

    Source: LLaDA `generate.py` (add_gumbel_noise); float64 because of arXiv 2409.02908.
    """
    counters = torch.arange(1, logits_NV.shape[-1] + 1, device=logits_NV.device).mul_(_GOLDEN)
    bits = seeds_N[:, None] + counters
    bits = bits.bitwise_xor_(_shift_right(bits, 30)).mul_(_MIX_1)
    bits = bits.bitwise_xor_(_shift_right(bits, 27)).mul_(_MIX_2)
    bits = bits.bitwise_xor_(_shift_right(bits, 31))
    uniforms = _shift_right(bits, 11).double().add_(0.5).mul_(2.0**-53)
    noise = uniforms.log_().neg_().log_().neg_()
    return noise.add_(logits_NV).argmax(dim=-1)


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """Logical right shift of int64 (torch shifts in the sign bit)."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
