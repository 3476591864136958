"""The NELBO objective: masks, weights and counts against loops and exact expectations."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from objective_toys import (
    MASK_ID,
    PAD_ID,
    VOCABULARY,
    GivenLogits,
    TinyNetwork,
    generators,
    make_batch,
)
from pydantic import ValidationError
from torch import Tensor

from tabom_cli.core.data.batch import Batch
from tabom_cli.core.objectives.base import combine
from tabom_cli.core.objectives.nelbo import NelboConfig, NelboObjective, ratio_range

T = 6
RESPONSES = [
    [1, 2, 3, 4, 5, 6],
    [7, 8, PAD_ID, PAD_ID, PAD_ID, PAD_ID],
    [PAD_ID] * T,
    [9, 1, 2, PAD_ID, 3, PAD_ID],
]


def _objective(**settings: Any) -> NelboObjective:
    return NelboObjective(NelboConfig(**settings))


def _batch(rows: list[int] | None = None) -> Batch:
    chosen = list(range(len(RESPONSES))) if rows is None else rows
    return make_batch(
        [[]] * len(chosen),
        response_length=T,
        responses=[RESPONSES[row] for row in chosen],
        prompts=[[1] * (row + 1) for row in chosen],
    )


def _logits(num_rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(num_rows, T, VOCABULARY, generator=generator, dtype=torch.float64)


def _token_losses(batch: Batch, logits: Tensor) -> Tensor:
    labels = batch.input_ids[:, -T:]
    losses = torch.zeros(labels.shape, dtype=torch.float64)
    for row, position in itertools.product(*map(range, labels.shape)):
        log_probs = torch.log_softmax(logits[row, position], dim=0)
        losses[row, position] = -log_probs[labels[row, position]]
    return losses


@pytest.mark.parametrize("include_padding", [True, False])
def test_unweighted_loss_is_the_mean_over_all_masked_tokens(include_padding: bool) -> None:
    batch = _batch()
    objective = _objective(include_padding=include_padding)
    state = objective.prepare(batch, generators(range(4)), MASK_ID)
    logits = _logits(4)
    total = combine(objective(state, GivenLogits(logits)).sums, state.counts, objective.weights)
    hidden = state.input_ids[:, -T:] == MASK_ID
    assert torch.equal(hidden, state.supervised_mask[:, -T:])
    assert total.item() == pytest.approx(_token_losses(batch, logits)[hidden].mean().item())
    if not include_padding:
        assert not (hidden & (batch.input_ids[:, -T:] == PAD_ID)).any()


def test_inv_t_loss_is_the_mean_over_rows_of_the_length_normalised_bound() -> None:
    batch = _batch()
    objective = _objective(weight="inv_t", include_padding=False)
    ratio_draw = torch.tensor([0.4, 0.9, 0.5, 0.0])
    uniforms = torch.rand(4, T, generator=torch.Generator().manual_seed(1))
    uniforms[3, 1] = 0.0
    draw = objective.diffusion_mask(batch, ratio_draw, uniforms)
    state = objective.state_at(batch, draw, MASK_ID)
    logits = _logits(4)
    total = combine(objective(state, GivenLogits(logits)).sums, state.counts, objective.weights)

    losses = _token_losses(batch, logits)
    expected = 0.0
    for row, ratio in enumerate([0.4, 0.9, 0.5, 1e-3]):
        answer = [r for r in range(T) if RESPONSES[row][r] != PAD_ID]
        masked = [r for r in answer if uniforms[row, r] < ratio]
        expected += sum(losses[row, r].item() for r in masked) / ratio / max(len(answer), 1)
    assert total.item() == pytest.approx(expected / 3, rel=1e-6)
    assert state.counts == {"ce": 3.0}


def test_inv_t_loss_is_unbiased_for_the_mean_token_loss() -> None:
    num_draws = 3000
    batch = make_batch([[]] * num_draws, response_length=T, responses=[RESPONSES[0]] * num_draws)
    objective = _objective(weight="inv_t", t_min=0.2)
    logits = _logits(1)
    state = objective.prepare(batch, generators(range(num_draws)), MASK_ID)
    terms = objective(state, GivenLogits(logits.expand(num_draws, -1, -1)))
    mean = combine(terms.sums, state.counts, objective.weights).item()
    assert mean == pytest.approx(_token_losses(_batch([0]), logits).mean().item(), rel=0.03)


def test_fixed_ratio_masks_the_rounded_share_and_at_least_one_token() -> None:
    batch = _batch()
    objective = _objective(masking="fixed", ratio=0.25, include_padding=False)
    state = objective.prepare(batch, generators(range(4)), MASK_ID)
    # round(6 * .25) = round(1.5) = 2 (half to even), round(.5) = 0 but at least 1, none, round(1.0) = 1
    assert state.supervised_mask.sum(dim=1).tolist() == [2, 1, 0, 1]


def test_fixed_ratio_reaches_every_position() -> None:
    batch = _batch([0])
    objective = _objective(masking="fixed", ratio=0.5)
    seen = torch.zeros(T, dtype=torch.long)
    for seed in range(400):
        state = objective.prepare(batch, generators([seed]), MASK_ID)
        seen += state.supervised_mask[0, -T:].long()
    assert (seen - 200).abs().max() < 50


def test_ratio_range_is_drawn_per_row_in_the_repaired_form_only() -> None:
    batch = make_batch([[]] * 8, response_length=T)
    shares = {}
    for parity in ("repaired", "release"):
        objective = _objective(parity=parity, masking="fixed", ratio="0.17:1.0")
        draw = objective.draw_fixed(batch, generators(range(8)))
        shares[parity] = set(draw.masked.sum(dim=1).tolist())
    assert len(shares["repaired"]) > 1
    assert len(shares["release"]) == 1


def test_masking_ratio_follows_t_bounds() -> None:
    batch = make_batch([[]], response_length=2000)
    objective = _objective(t_min=0.3, t_max=0.31)
    state = objective.prepare(batch, generators([0]), MASK_ID)
    assert 0.26 < state.supervised_mask.sum().item() / 2000 < 0.35


@pytest.mark.parametrize(
    "settings",
    [{}, {"weight": "inv_t", "include_padding": False}, {"masking": "fixed", "ratio": 0.5}],
)
def test_micro_batches_add_up_to_the_global_batch(settings: dict[str, Any]) -> None:
    objective = _objective(**settings)

    def run(parts: list[list[int]]) -> tuple[float, list[Tensor]]:
        network = TinyNetwork()
        states = [objective.prepare(_batch(rows), generators(rows), MASK_ID) for rows in parts]
        counts = {"ce": sum(state.counts["ce"] for state in states)}
        losses = [combine(objective(s, network).sums, counts, objective.weights) for s in states]
        for loss in losses:
            loss.backward()
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        return sum(loss.item() for loss in losses), grads

    whole, whole_grads = run([[0, 1, 2, 3]])
    split, split_grads = run([[2], [3, 0], [1]])
    assert split == pytest.approx(whole, rel=1e-12)
    for one, other in zip(whole_grads, split_grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("parity", ["repaired", "release"])
def test_batch_of_padding_alone_gives_zero_connected_to_every_parameter(parity: str) -> None:
    objective = _objective(parity=parity, include_padding=False)
    state = objective.prepare(_batch([2]), generators([0]), MASK_ID)
    network = TinyNetwork()
    total = combine(objective(state, network).sums, state.counts, objective.weights)
    total.backward()
    assert total.item() == 0.0
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def test_release_form_averages_the_micro_batch_in_both_weights() -> None:
    batch = _batch()
    logits = _logits(4)
    for weight in ("none", "inv_t"):
        results = []
        for parity in ("release", "repaired"):
            objective = _objective(parity=parity, weight=weight)
            state = objective.prepare(batch, generators(range(4)), MASK_ID)
            sums = objective(state, GivenLogits(logits)).sums
            results.append(combine(sums, state.counts, objective.weights).item())
            assert parity == "repaired" or state.counts == {"ce": 1.0}
        assert results[0] == pytest.approx(results[1], rel=1e-12)


def test_metrics_report_cross_entropy_and_mask_ratio() -> None:
    batch = _batch()
    objective = _objective(weight="inv_t")
    state = objective.prepare(batch, generators(range(4)), MASK_ID)
    logits = _logits(4)
    metrics = objective(state, GivenLogits(logits)).metrics
    hidden = state.supervised_mask[:, -T:]
    total, count = metrics["ce"]
    assert total.item() == pytest.approx(_token_losses(batch, logits)[hidden].sum().item())
    assert count.item() == hidden.sum().item()
    assert [value.item() for value in metrics["mask_ratio"]] == [hidden.sum().item(), 4 * T]


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.8, (0.8, 0.8)), (1, (1.0, 1.0)), ("0.5", (0.5, 0.5)), ("0.3:0.9", (0.3, 0.9))],
)
def test_ratio_is_a_number_or_a_range(ratio: float | str, expected: tuple[float, float]) -> None:
    assert ratio_range(ratio) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masking": "fixed"}, "needs ratio"),
        ({"masking": "fixed", "ratio": "a:b"}, "ratio 'a:b'"),
        ({"masking": "fixed", "ratio": "0.9:0.3"}, "lo <= hi"),
        ({"masking": "fixed", "ratio": 0.0}, "in \\(0, 1\\]"),
        ({"masking": "fixed", "ratio": "0.1:0.2:0.3"}, "lo <= hi"),
        ({"masking": "fixed", "ratio": 0.5, "t_max": 0.5}, "'diffusion' only"),
        ({"ratio": 0.5}, "'fixed' only"),
        ({"t_min": 0.9, "t_max": 0.1}, "t_min 0.9 exceeds t_max 0.1"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        NelboConfig(**settings)
