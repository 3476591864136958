"""The chunked head against dense autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tabom_cli.core.kernels.linear_scores import linear_scores, linear_scores_reference

N, D, V = 7, 5, 23


def _inputs(
    dtype: torch.dtype = torch.float64, scale: float = 2.0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = (scale * torch.randn(N, D, generator=generator)).to(dtype)
    head = torch.randn(V, D, generator=generator).to(dtype)
    targets = torch.randint(V, (N,), generator=generator)
    targets[:2] = torch.tensor([0, V - 1])
    return hidden, head, targets


def _gradients(function, hidden: Tensor, head: Tensor, targets: Tensor, **options) -> list[Tensor]:
    hidden, head = hidden.clone().requires_grad_(), head.clone().requires_grad_()
    cross_entropy, entropy = function(hidden, head, targets, **options)
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(2, len(targets), generator=generator).to(cross_entropy.dtype)
    loss = (upstream[0] * cross_entropy).sum() + (upstream[1] * entropy).sum()
    return [cross_entropy, entropy, *torch.autograd.grad(loss, [hidden, head])]


@pytest.mark.parametrize("chunk_size", [1, 4, 7, 22, 23, 100])
def test_values_and_gradients_equal_dense_autograd(chunk_size: int) -> None:
    inputs = _inputs()
    fast = _gradients(linear_scores, *inputs, chunk_size=chunk_size)
    plain = _gradients(linear_scores_reference, *inputs)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_gradients_equal_finite_differences() -> None:
    hidden, head, targets = _inputs()
    assert torch.autograd.gradcheck(
        lambda h, w: linear_scores(h, w, targets, chunk_size=6),
        (hidden.requires_grad_(), head.requires_grad_()),
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 5e-2)])
def test_low_precision_inputs_are_scored_in_float32(dtype: torch.dtype, tolerance: float) -> None:
    inputs = _inputs(dtype)
    fast = _gradients(linear_scores, *inputs, chunk_size=6)
    plain = _gradients(linear_scores_reference, *inputs)
    assert fast[0].dtype == torch.float32
    assert fast[2].dtype == dtype
    for one, other in zip(fast[:2], plain[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for one, other in zip(fast[2:], plain[2:], strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_saturated_logits_stay_finite() -> None:
    hidden, head, targets = _inputs(scale=1000.0)
    results = _gradients(linear_scores, hidden, head, targets, chunk_size=5)
    plain = _gradients(linear_scores_reference, hidden, head, targets)
    for one, other in zip(results, plain, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_frozen_head_gets_no_gradient_and_no_work() -> None:
    hidden, head, targets = _inputs()
    cross_entropy, entropy = linear_scores(hidden.requires_grad_(), head, targets, chunk_size=6)
    (cross_entropy.sum() + entropy.sum()).backward()
    assert hidden.grad is not None
    assert head.grad is None


def test_no_position_gives_empty_scores_connected_to_the_graph() -> None:
    hidden, head, targets = _inputs()
    empty = hidden[:0].clone().requires_grad_()
    cross_entropy, entropy = linear_scores(empty, head, targets[:0], chunk_size=6)
    (cross_entropy.sum() + entropy.sum()).backward()
    assert empty.grad is not None
    assert empty.grad.shape == (0, D)
