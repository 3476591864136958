"""Entropies, filters and draws against loops, hand-worked numbers and known frequencies."""

from __future__ import annotations

import math

import pytest
import torch

from tabom_cli.core.numerics import (
    blocked_running_sum,
    draw_gumbel,
    draw_tokens,
    entropy,
    filter_top_p_top_k,
    log_probs,
)


def test_log_probs_are_float32_for_half_precision_and_float64_for_double() -> None:
    logits = torch.randn(3, 7)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        computed = log_probs(logits.to(dtype))
        assert computed.dtype == torch.float32
        torch.testing.assert_close(computed, logits.to(dtype).float().log_softmax(-1))
    assert log_probs(logits.double()).dtype == torch.float64


def test_entropy_by_hand_and_with_impossible_ids() -> None:
    """(1/2, 1/4, 1/4, 0) has 1.5 ln 2 nats; one certain id has exactly 0."""
    logits = torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.25] * 4]).log()
    expected = [1.5 * math.log(2), 0.0, math.log(4)]
    computed = entropy(log_probs(logits))
    torch.testing.assert_close(computed, torch.tensor(expected))
    assert computed[1].item() == 0.0
    assert math.copysign(1.0, computed[1].item()) == 1.0


def test_top_p_keeps_the_shortest_prefix_that_exceeds_p_and_always_one() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.3, 0.1]]).log()

    def kept(top_p: float | None, top_k: int | None = None) -> list[int]:
        return filter_top_p_top_k(logits, top_p, top_k)[0].isfinite().nonzero()[:, 0].tolist()

    assert kept(0.2) == [1]
    assert kept(0.75) == [1, 2]
    assert kept(0.85) == [0, 1, 2]
    assert kept(None) == kept(1.0) == [0, 1, 2, 3]
    assert kept(None, 2) == [1, 2]
    assert kept(None, 3) == [0, 1, 2, 3]
    assert kept(0.85, 1) == [1]
    assert kept(None, 9) == [0, 1, 2, 3]


def test_equal_logits_are_cut_by_lowest_id_first() -> None:
    kept = filter_top_p_top_k(torch.zeros(1, 8), 0.4, None)[0].isfinite()
    assert kept.tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.99])
def test_top_p_equals_a_loop(top_p: float) -> None:
    logits = torch.randn(20, 30, generator=torch.Generator().manual_seed(0)) * 2
    computed = filter_top_p_top_k(logits, top_p, None)
    for row, result in zip(logits.double(), computed, strict=True):
        probabilities = row.softmax(-1)
        mass, kept = 0.0, set()
        for token in sorted(range(30), key=lambda v: -float(row[v])):
            kept.add(token)
            mass += float(probabilities[token])
            if mass > top_p:
                break
        assert set(result.isfinite().nonzero()[:, 0].tolist()) == kept


def test_inverse_cdf_by_hand() -> None:
    """(0.2, 0, 0.5, 0.3): u below 0.2 is id 0, below 0.7 id 2, else 3; id 1 never comes."""
    probs = torch.tensor([0.2, 0.0, 0.5, 0.3], dtype=torch.float64)
    uniforms = torch.tensor([0.0, 0.19, 0.2, 0.21, 0.69, 0.71, 1 - 2**-53], dtype=torch.float64)
    drawn = draw_tokens(probs.expand(len(uniforms), 4), uniforms)
    assert drawn.tolist() == [0, 0, 2, 2, 2, 3, 3]


def test_the_largest_uniform_never_draws_an_impossible_id_behind_the_last_possible() -> None:
    probs = torch.tensor([[0.0, 0.3, 0.7, 0.0, 0.0]])
    for uniform, expected in ((0.0, 1), (1 - 2**-53, 2), (1.0, 2)):
        assert draw_tokens(probs, torch.tensor([uniform], dtype=torch.float64)).item() == expected


def test_a_draw_depends_on_its_own_row_only() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(50, 40, generator=generator)
    uniforms = torch.rand(50, generator=generator, dtype=torch.float64)
    together = draw_tokens(probs, uniforms)
    seeds = torch.randint(2**62, (50,), generator=generator)
    noisy = draw_gumbel(probs.log(), seeds)
    for n in range(50):
        assert draw_tokens(probs[n : n + 1], uniforms[n : n + 1]).item() == together[n]
        assert draw_gumbel(probs[n : n + 1].log(), seeds[n : n + 1]).item() == noisy[n]


def splitmix(seed: int, index: int) -> float:
    """SplitMix64 of Steele, Lea and Flood in plain integers, as a uniform in (0, 1)."""
    state = (seed + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
    return (((state ^ (state >> 31)) >> 11) + 0.5) * 2.0**-53


def test_gumbel_noise_is_splitmix64_and_the_argmax_is_lladas() -> None:
    """Argmax of exp(z) / (-log u)^T over ids, in plain Python."""
    logits = torch.randn(30, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seeds = torch.randint(2**62, (30,), generator=torch.Generator().manual_seed(1))
    for temperature in (0.3, 1.0, 2.0):
        drawn = draw_gumbel(logits / temperature, seeds)
        for n in range(30):
            scores = [
                math.exp(float(z)) / (-math.log(splitmix(int(seeds[n]), v))) ** temperature
                for v, z in enumerate(logits[n])
            ]
            assert drawn[n] == scores.index(max(scores))


def test_gumbel_draws_have_the_softmax_frequencies_and_never_an_impossible_id() -> None:
    probs = torch.tensor([0.1, 0.0, 0.6, 0.3])
    seeds = torch.randint(2**62, (20_000,), generator=torch.Generator().manual_seed(5))
    drawn = draw_gumbel(probs.log().expand(20_000, 4), seeds)
    for token, p in enumerate(probs.tolist()):
        assert abs((drawn == token).double().mean().item() - p) <= 4 * math.sqrt(p * (1 - p) / 2e4)


@pytest.mark.parametrize("columns", [1, 127, 128, 129, 1000])
def test_the_blocked_running_sum_is_the_running_sum(columns: int) -> None:
    values = torch.rand(3, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        blocked_running_sum(values), values.cumsum(dim=-1), rtol=1e-13, atol=1e-13
    )


@pytest.mark.gpu
def test_top_p_and_draws_run_on_a_gpu_while_only_repeatable_kernels_are_allowed() -> None:
    logits = torch.randn(4, 5000, generator=torch.Generator().manual_seed(1))
    uniforms = torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def draw(device: str) -> torch.Tensor:
        kept = filter_top_p_top_k(logits.to(device), 0.9, None)
        return draw_tokens(kept.softmax(dim=-1), uniforms.to(device)).cpu()

    torch.use_deterministic_algorithms(True)
    try:
        assert draw("cuda").tolist() == draw("cpu").tolist()
    finally:
        torch.use_deterministic_algorithms(False)
