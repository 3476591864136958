"""The repaired TABOM objective against a loop written from Eq. 8 and 9 of the paper."""

from __future__ import annotations

import math
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
from tabom_cli.core.errors import DataError
from tabom_cli.core.objectives.base import combine
from tabom_cli.core.objectives.tabom import TabomConfig, TabomObjective

T = 10
ORDERS = {
    "one per step": [3, 0, 7, 1, 9, 2, 5, 8, 4, 6],
    "ties": [0, 2, 2, 1, 1, 4, 4, 4, 3, 5],
    "never decoded": [-1, 0, 1, -1, 2, 5, 4, -1, 3, 6],
    "nothing decoded": [-1] * T,
    "all in one step": [0] * T,
    "short": [0, 1, 1, 0, 2, 2, 2, 1, 0, 0],
    "gaps": [0, 11, 4, 7, 19, 2, 30, 25, 13, 22],
    "shorter than T": [2, 0, 1, 3],
}
RAGGED = list(ORDERS.values())


def _objective(**settings: Any) -> TabomObjective:
    defaults: dict[str, Any] = {"supervision_window": 4, "rank_window": 4, "rank_margin": 0.2}
    return TabomObjective(TabomConfig(**{**defaults, **settings}))


def _logits(num_rows: int, dtype: torch.dtype = torch.float64, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return (scale * torch.randn(num_rows, T, VOCABULARY, generator=generator)).to(dtype)


def _entropy(logits: Tensor) -> Tensor:
    total = logits.new_zeros(())
    log_probs = torch.log_softmax(logits, dim=0)
    for log_p in log_probs:
        total = total - log_p.exp() * log_p
    return total


def _paper_loss(
    batch: Batch,
    cuts: list[int],
    logits: Tensor,
    *,
    window: int,
    rank_window: int,
    margin: float,
    weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 9 by loops: mean CE over all tokens of D, plus lambda times the mean over rows of Eq. 8."""
    prompt = batch.input_ids.shape[1] - T
    ce: list[Tensor] = []
    rank: list[Tensor] = []
    for row, cut in enumerate(cuts):
        order = batch.decoding_order[row, prompt:].tolist()
        if cut < 0:
            continue
        segment = [r for r in range(T) if order[r] >= 0 and cut <= order[r] < cut + window]
        for r in segment:
            label = int(batch.input_ids[row, prompt + r])
            ce.append(-torch.log_softmax(logits[row, r], dim=0)[label])
        hinges = []
        for i in segment:
            for j in segment:
                in_window = max(order[i], order[j]) < cut + rank_window
                if order[i] < order[j] and in_window:
                    gap = margin + _entropy(logits[row, i]) - _entropy(logits[row, j])
                    hinges.append(torch.clamp(gap, min=0.0))
        if hinges:
            rank.append(torch.stack(hinges).mean())
    zero = logits.sum() * 0.0
    mean_ce = torch.stack(ce).mean() if ce else zero
    mean_rank = torch.stack(rank).mean() if rank else zero
    return mean_ce + weight * mean_rank, mean_ce, mean_rank


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("window", "rank_window"), [(4, 4), (4, 2), (8, 8), (4, 1), (4, 0), (1, 1), (0, 0), (40, 40)]
)
def test_loss_equals_the_loop_over_the_paper_on_ragged_rows(
    window: int, rank_window: int, dtype: torch.dtype
) -> None:
    batch = make_batch(RAGGED, response_length=T)
    objective = _objective(supervision_window=window, rank_window=rank_window, rank_weight=1.5)
    cuts = objective.draw_cuts(batch, generators(range(len(RAGGED))))
    state = objective.state_at(batch, cuts, MASK_ID)
    given = _logits(len(RAGGED), dtype).requires_grad_()
    terms = objective(state, GivenLogits(given))
    total = combine(terms.sums, state.counts, objective.weights)
    total.backward()

    # Half-precision logits are widened before anything is computed, so the loop gets them widened.
    wide = given.detach().to(torch.float64).requires_grad_()
    expected, mean_ce, mean_rank = _paper_loss(
        batch,
        cuts.cut.tolist(),
        wide,
        window=window,
        rank_window=rank_window,
        margin=0.2,
        weight=1.5,
    )
    expected.backward()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert total.item() == pytest.approx(expected.item(), rel=tolerance, abs=1e-12)
    for name, mean in (("ce", mean_ce), ("rank", mean_rank)):
        value = terms.sums[name].item() / max(state.counts[name], 1.0)
        assert value == pytest.approx(mean.item(), rel=tolerance, abs=1e-12)
    assert given.grad is not None
    assert wide.grad is not None
    grad_tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-3}[dtype]
    torch.testing.assert_close(
        given.grad.double(),
        wide.grad,
        rtol=1e-2 if dtype == torch.bfloat16 else 0.0,
        atol=grad_tolerance,
    )


def test_hand_worked_ranking_example_has_the_stated_loss_and_gradient() -> None:
    entropies = [0.5, 0.2, 0.9, 0.1]
    logits = torch.full((1, T, 2), 0.0, dtype=torch.float64)
    for position, entropy in enumerate(entropies):
        logits[0, position, 0] = _logit_with_entropy(entropy * math.log(2))
    scale = math.log(2)
    batch = make_batch([[0, 1, 2, 3]], response_length=T, responses=[[1] * T])
    objective = _objective(rank_margin=0.3 * scale, include_padding=True)
    state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([0])), MASK_ID)
    given = logits.requires_grad_()
    rank = objective(state, GivenLogits(given)).sums["rank"]
    assert rank.item() / scale == pytest.approx(0.466667, abs=1e-6)

    (grad,) = torch.autograd.grad(rank, given)
    expected = [1 / 3, 0.0, 1 / 6, -1 / 2]
    for position, factor in enumerate(expected):
        one = logits.detach()[0, position].clone().requires_grad_()
        _entropy(one).backward()
        assert one.grad is not None
        torch.testing.assert_close(grad[0, position], factor * one.grad, rtol=0.0, atol=1e-9)


def _logit_with_entropy(target: float) -> float:
    """The gap z >= 0 of two logits (z, 0) whose distribution has this entropy, by bisection."""
    low, high = 0.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        entropy = _entropy(torch.tensor([middle, 0.0], dtype=torch.float64)).item()
        low, high = (middle, high) if entropy > target else (low, middle)
    return low


def test_descent_lowers_the_entropy_of_early_tokens_and_raises_that_of_late_ones() -> None:
    batch = make_batch([[0, 1] + [-1] * 8], response_length=T)
    objective = _objective(rank_margin=0.0)
    state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([0])), MASK_ID)
    logits = _logits(1)
    logits[0, 0] *= 0.1
    logits[0, 1] *= 3.0
    given = logits.requires_grad_()
    before = [_entropy(row).item() for row in given[0, :2].detach()]
    assert before[0] > before[1]
    rank = objective(state, GivenLogits(given)).sums["rank"]
    (grad,) = torch.autograd.grad(rank, given)
    after = [_entropy(row).item() for row in (given - 0.05 * grad)[0, :2].detach()]
    assert after[0] < before[0]
    assert after[1] > before[1]


def test_pair_already_ordered_beyond_the_margin_has_no_gradient() -> None:
    batch = make_batch([[0, 1] + [-1] * 8], response_length=T)
    logits = _logits(1)
    logits[0, 0] *= 10.0
    logits[0, 1] *= 0.01
    objective = _objective(rank_margin=0.1)
    state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([0])), MASK_ID)
    given = logits.requires_grad_()
    rank = objective(state, GivenLogits(given)).sums["rank"]
    (grad,) = torch.autograd.grad(rank, given)
    assert rank.item() == 0.0
    assert not grad.any()
    assert state.counts["rank"] == 1.0


def test_visible_tokens_are_those_decoded_before_the_cut() -> None:
    batch = make_batch([ORDERS["never decoded"]], response_length=T)
    objective = _objective(supervision_window=2, rank_window=2)
    state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([3])), MASK_ID)
    shown = (state.input_ids[0, 2:] != MASK_ID).tolist()
    assert shown == [0 <= step < 3 for step in ORDERS["never decoded"]]
    scored = state.supervised_mask[0, 2:].tolist()
    assert scored == [step in (3, 4) for step in ORDERS["never decoded"]]
    assert state.input_ids[0, :2].tolist() == [1, 2]


def test_cuts_reach_the_last_step_only_in_the_repaired_form() -> None:
    batch = make_batch([ORDERS["one per step"]], response_length=T)
    drawn: dict[str, set[int]] = {}
    for parity in ("repaired", "release"):
        objective = _objective(parity=parity)
        drawn[parity] = {
            int(objective.draw_cuts(batch, generators([seed])).cut[0]) for seed in range(300)
        }
    assert drawn["repaired"] == set(range(7))
    assert drawn["release"] == set(range(6))


@pytest.mark.parametrize("name", ["short", "all in one step"])
def test_short_trajectory_is_learned_in_full_from_cut_zero(name: str) -> None:
    batch = make_batch([ORDERS[name]], response_length=T)
    objective = _objective(supervision_window=6, rank_window=6)
    state = objective.prepare(batch, generators([3]), MASK_ID)
    assert state.supervised_mask[0, 2:].all()
    assert (state.input_ids[0, 2:] == MASK_ID).all()
    skipping = _objective(supervision_window=6, rank_window=6, short="skip")
    skipped = skipping.prepare(batch, generators([3]), MASK_ID)
    assert skipped.counts == {"ce": 0.0, "rank": 0.0}
    assert (skipped.input_ids[0, 2:] == MASK_ID).all()


def test_row_without_a_decoded_token_is_masked_and_adds_nothing() -> None:
    batch = make_batch([ORDERS["nothing decoded"], ORDERS["one per step"]], response_length=T)
    objective = _objective()
    state = objective.prepare(batch, generators([0, 1]), MASK_ID)
    alone = objective.prepare(
        make_batch([ORDERS["one per step"]], response_length=T), generators([1]), MASK_ID
    )
    assert state.counts == alone.counts
    assert (state.input_ids[0, 2:] == MASK_ID).all()
    assert not state.supervised_mask[0].any()


def test_padding_excluded_bounds_the_cut_by_content_and_scores_no_padding() -> None:
    responses = [[1, 2, 3, 4, PAD_ID, PAD_ID, PAD_ID, PAD_ID, PAD_ID, PAD_ID]]
    orders = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]
    batch = make_batch(orders, response_length=T, responses=responses)
    objective = _objective(supervision_window=2, rank_window=2, include_padding=False)
    assert objective.cut_bounds(batch).tolist() == [2]
    state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([2])), MASK_ID)
    assert state.supervised_mask[0, 2:].nonzero()[:, 0].tolist() == [2, 3]


def test_content_scope_ranks_up_to_the_first_end_of_text_but_learns_all() -> None:
    responses = [[1, 2, PAD_ID, PAD_ID, PAD_ID, 5, 6, 7, 8, 9]]
    orders = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]
    batch = make_batch(orders, response_length=T, responses=responses)
    objective = _objective(supervision_window=10, rank_window=10, rank_scope="content")
    state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([0])), MASK_ID)
    pairs = state.extras["pairs"][0].nonzero().tolist()
    assert pairs == [[0, 1], [0, 2], [1, 2]]
    assert state.counts == {"ce": 10.0, "rank": 1.0}


def test_tie_policies_order_pairs_of_one_step_as_documented() -> None:
    order = [[0, 0, 1] + [-1] * 7]
    batch = make_batch(order, response_length=T, entropies=[[0.9, 0.1, 0.5]])
    found = {}
    for ties in ("strict", "entropy", "slot"):
        objective = _objective(ties=ties)
        state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([0])), MASK_ID)
        found[ties] = sorted(map(tuple, state.extras["pairs"][0].nonzero().tolist()))
    assert found == {
        "strict": [(0, 2), (1, 2)],
        "entropy": [(0, 2), (1, 0), (1, 2)],
        "slot": [(0, 1), (0, 2), (1, 2)],
    }


def test_entropy_ties_without_recorded_entropies_name_the_rows() -> None:
    batch = make_batch(
        [ORDERS["one per step"]] * 2,
        response_length=T,
        entropies=[[0.5] * T, None],
        names=["a", "b"],
    )
    with pytest.raises(DataError, match="lack: b"):
        _objective(ties="entropy").prepare(batch, generators([0, 1]), MASK_ID)


def test_global_window_learns_everything_from_the_cut_on() -> None:
    batch = make_batch([ORDERS["gaps"]], response_length=T)
    objective = _objective(window="global")
    assert objective.cut_bounds(batch).tolist() == [30]
    state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([7])), MASK_ID)
    late = [step >= 7 for step in ORDERS["gaps"]]
    assert state.supervised_mask[0, 2:].tolist() == late
    num_late = sum(late)
    assert int(state.extras["pairs"].sum()) == num_late * (num_late - 1) // 2


def test_micro_batches_add_up_to_the_loss_and_gradient_of_the_global_batch() -> None:
    prompts = [[1] * (1 + row % 3) for row in range(len(RAGGED))]
    whole = make_batch(RAGGED, response_length=T, prompts=prompts)
    objective = _objective(rank_weight=2.0)

    def run(parts: list[list[int]]) -> tuple[float, list[Tensor]]:
        network = TinyNetwork()
        states = []
        for rows in parts:
            batch = make_batch(
                [RAGGED[row] for row in rows],
                response_length=T,
                prompts=[prompts[row] for row in rows],
                responses=[whole.input_ids[row, -T:].tolist() for row in rows],
            )
            states.append(objective.prepare(batch, generators(rows), MASK_ID))
        counts = {name: sum(state.counts[name] for state in states) for name in ("ce", "rank")}
        loss = 0.0
        for state in states:
            part = combine(objective(state, network).sums, counts, objective.weights)
            part.backward()
            loss += part.item()
        return loss, [p.grad for p in network.parameters() if p.grad is not None]

    # The toy network sees positions from the right, so that left padding changes nothing.
    loss, grads = run([list(range(8))])
    for parts in ([[0, 1, 2], [3], [4, 5, 6, 7]], [[7, 3], [0], [1], [2, 6], [5, 4]]):
        split_loss, split_grads = run(parts)
        assert split_loss == pytest.approx(loss, rel=1e-12)
        for split, one in zip(split_grads, grads, strict=True):
            torch.testing.assert_close(split, one, rtol=1e-10, atol=1e-13)


def test_draws_do_not_depend_on_batch_mates_or_padding() -> None:
    objective = _objective()
    alone = objective.prepare(
        make_batch([ORDERS["gaps"]], response_length=T), generators([5]), MASK_ID
    )
    mates = make_batch(
        [ORDERS["ties"], ORDERS["gaps"]],
        response_length=T,
        prompts=[[1] * 9, [1, 2]],
        responses=[[1] * T, alone.targets[0, 2:].tolist()],
    )
    together = objective.prepare(mates, generators([4, 5]), MASK_ID)
    assert torch.equal(together.input_ids[1, -T:], alone.input_ids[0, -T:])
    assert torch.equal(together.supervised_mask[1, -T:], alone.supervised_mask[0, -T:])


def test_batch_without_supervised_token_gives_zero_connected_to_every_parameter() -> None:
    for parity in ("repaired", "release"):
        batch = make_batch([ORDERS["nothing decoded"]] * 2, response_length=T)
        objective = _objective(parity=parity)
        state = objective.prepare(batch, generators([0, 1]), MASK_ID)
        network = TinyNetwork()
        total = combine(objective(state, network).sums, state.counts, objective.weights)
        total.backward()
        assert total.item() == 0.0
        for parameter in network.parameters():
            assert parameter.grad is not None
            assert not parameter.grad.any()


def test_only_supervised_positions_reach_the_head() -> None:
    batch = make_batch(RAGGED, response_length=T)
    objective = _objective()
    state = objective.prepare(batch, generators(range(len(RAGGED))), MASK_ID)
    policy = GivenLogits(_logits(len(RAGGED)))
    objective(state, policy)
    assert policy.head_rows == int(state.supervised_mask.sum()) == state.counts["ce"]


def test_metrics_count_ordered_and_violated_pairs() -> None:
    batch = make_batch([[0, 1, 2] + [-1] * 7], response_length=T)
    logits = _logits(1)
    for position, factor in enumerate((0.5, 4.0, 0.05)):
        logits[0, position] = torch.arange(VOCABULARY, dtype=torch.float64) * factor
    first, second, third = (_entropy(row).item() for row in logits[0, :3])
    assert second < first < third
    objective = _objective(rank_margin=0.01)
    state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([0])), MASK_ID)
    given = logits.requires_grad_()
    metrics = objective(state, GivenLogits(given)).metrics
    figures = {name: (value.item(), count.item()) for name, (value, count) in metrics.items()}
    assert figures["ranking_accuracy"] == (2.0, 3.0)
    assert figures["violated_pairs"] == (1.0, 3.0)
    assert figures["supervised_tokens"] == (3.0, 1.0)
    assert figures["entropy"] == pytest.approx((first + second + third, 3.0))
    assert figures["rank"] == pytest.approx(((first - second + 0.01) / 3, 1.0))
    assert not any(value.requires_grad for pair in metrics.values() for value in pair)


def test_rank_weight_zero_keeps_the_figures_but_not_the_gradient() -> None:
    batch = make_batch(RAGGED, response_length=T)
    rows = generators(range(len(RAGGED)))
    with_rank, without = _objective(), _objective(rank_weight=0.0)
    state = without.prepare(batch, rows, MASK_ID)
    given = _logits(len(RAGGED)).requires_grad_()
    terms = without(state, GivenLogits(given))
    total = combine(terms.sums, state.counts, without.weights)
    reference = with_rank(state, GivenLogits(given))
    assert total.item() == pytest.approx(reference.sums["ce"].item() / state.counts["ce"])
    assert terms.metrics["rank"][0].item() == pytest.approx(reference.sums["rank"].item())
    assert not terms.sums["rank"].requires_grad


def test_forbidden_token_keeps_entropy_and_gradient_finite() -> None:
    batch = make_batch([[0, 1] + [-1] * 8], response_length=T, responses=[[1] * T])
    logits = _logits(1)
    logits[..., 5] = -math.inf
    objective = _objective()
    state = objective.state_at(batch, objective.windows_at(batch, torch.tensor([0])), MASK_ID)
    given = logits.requires_grad_()
    terms = objective(state, GivenLogits(given))
    combine(terms.sums, state.counts, objective.weights).backward()
    assert given.grad is not None
    assert torch.isfinite(given.grad).all()
    kept = [v for v in range(VOCABULARY) if v != 5]
    expected = sum(_entropy(logits.detach()[0, r, kept]).item() for r in (0, 1))
    assert terms.metrics["entropy"][0].item() == pytest.approx(expected)


def test_repaired_form_lets_a_non_finite_loss_show() -> None:
    batch = make_batch([ORDERS["one per step"]], response_length=T)
    logits = _logits(1)
    logits[...] = math.nan
    objective = _objective()
    state = objective.prepare(batch, generators([0]), MASK_ID)
    assert objective(state, GivenLogits(logits)).sums["ce"].isnan()
    assert state.sample_ids == ("row0",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"supervision_window": 8, "rank_window": 9}, "rank_window 9 exceeds supervision_window 8"),
        ({"rank_margin": -0.1}, "greater than or equal to 0"),
        ({"ties": "parity"}, "'strict', 'entropy' or 'slot'"),
        ({"windw": "local"}, "Extra inputs"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        TabomConfig(**settings)


def test_knobs_override_what_parity_says() -> None:
    batch = make_batch([ORDERS["ties"]], response_length=T)
    release = _objective(parity="release", inclusive_last=True, ties="strict", short="full")
    assert release.cut_bounds(batch).tolist() == _objective().cut_bounds(batch).tolist()
    cuts = release.windows_at(batch, torch.tensor([1]))
    pairs = release.state_at(batch, cuts, MASK_ID).extras["pairs"]
    assert torch.equal(pairs, _objective().state_at(batch, cuts, MASK_ID).extras["pairs"])


def test_state_moves_to_another_device_as_a_whole() -> None:
    batch = make_batch(RAGGED, response_length=T)
    state = _objective().prepare(batch, generators(range(len(RAGGED))), MASK_ID)
    moved = state.to(torch.device("meta"))
    tensors = [moved.input_ids, moved.attention_mask, moved.targets, moved.supervised_mask]
    assert all(tensor.device.type == "meta" for tensor in [*tensors, *moved.extras.values()])
    assert moved.counts == state.counts
    assert moved.sample_ids == state.sample_ids
