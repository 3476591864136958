"""Each strategy's rule on numbers worked by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from decoding_toys import (
    EOS,
    MASK,
    VOCABULARY,
    ToyPolicy,
    Watcher,
    plain_entropy,
    requests,
    softmax,
    toy,
)
from torch import Tensor

from tabom_cli.core import plugins
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.scheduler import decode
from tabom_cli.core.decoding.strategies.base import Ranked, create, drawn_order, rank
from tabom_cli.core.errors import RecipeError


def strategy(name: str, **settings: Any) -> Any:
    return create(DecodeConfig(strategy=name, **settings))


def ranked(certainties: list[float], positions: list[int] | None = None) -> Ranked:
    """As the sampler ranks: -inf stands for a suppressed position."""
    certainty_n = torch.tensor(certainties, dtype=torch.float64)
    positions_n = torch.tensor(positions or list(range(len(certainties))))
    return rank(positions_n, certainty_n, certainty_n == -math.inf)


def select(rule: Any, row: Ranked, quota: int | None = None) -> list[int]:
    index_n = rule.select(row, quota, torch.Generator().manual_seed(0))
    return sorted(row.positions_n[index_n].tolist())


def candidates(probabilities: list[list[float]], **settings: Any) -> Candidates:
    return Candidates(torch.tensor(probabilities).log(), DecodeConfig(**settings), ranks_raw=True)


def test_every_file_is_a_strategy_with_an_interface() -> None:
    found = plugins.names("decode strategy")
    assert {"entropy", "maskgit_plus", "topk_margin", "origin", "low_confidence"} <= set(found)
    assert {"random", "threshold", "factor", "credit", "hierarchical"} <= set(found)
    assert "base" not in found
    for name in found:
        assert plugins.load("decode strategy", name).STRATEGY.__doc__


def test_certainties_of_one_distribution_by_hand() -> None:
    """P = (1/2, 1/4, 1/4): entropy 1.5 ln 2, margin 1/4, token probability 1/2."""
    row = candidates([[0.5, 0.25, 0.25]])
    assert float(strategy("entropy").certainty(row)) == pytest.approx(-1.5 * math.log(2))
    assert float(strategy("topk_margin").certainty(row)) == pytest.approx(0.25)
    for name in ("maskgit_plus", "low_confidence", "threshold", "factor", "hierarchical"):
        assert float(strategy(name).certainty(row)) == pytest.approx(0.5)


def test_ranking_knows_probabilities_that_float32_rounds_to_one() -> None:
    logits = torch.tensor([[40.0, 0.0], [42.0, 0.0]])
    certainty = strategy("threshold").certainty(Candidates(logits, DecodeConfig(), ranks_raw=True))
    assert 1.0 - float(certainty[0]) == pytest.approx(math.exp(-40.0), rel=0.2)
    row = Candidates(torch.tensor([[30.0, 0.0], [32.0, 0.0]]), DecodeConfig(), ranks_raw=True)
    certainty = strategy("threshold").certainty(row)
    assert float(certainty[0]) < float(certainty[1]) < 1.0


def test_ranking_breaks_ties_by_position_and_puts_suppressed_ones_last() -> None:
    row = rank(
        torch.arange(5),
        torch.tensor([0.2, 0.9, 0.9, 0.5, 0.95]),
        torch.tensor([False, False, False, False, True]),
    )
    assert row.order_n.tolist() == [1, 2, 3, 0, 4]
    assert row.certainty_n[4] == -math.inf


def test_the_config_threshold_reveals_all_that_reach_it_or_the_best() -> None:
    rule = strategy("entropy", threshold=0.75)
    assert select(rule, ranked([0.75, 0.5, 0.8, 0.74])) == [0, 2]
    assert select(rule, ranked([0.1, 0.5, 0.2])) == [1]


def test_threshold_reveals_all_that_reach_its_option_or_the_best() -> None:
    rule = strategy("threshold", options={"threshold": 0.6})
    assert select(rule, ranked([0.6, 0.59, 0.9])) == [0, 2]
    assert select(rule, ranked([0.1, 0.2, 0.2])) == [1]
    assert select(rule, ranked([0.1, 0.2, 0.2]), quota=3) == [0, 1, 2]
    assert select(strategy("threshold"), ranked([0.89, 0.9])) == [1]


@pytest.mark.parametrize(
    ("factor", "certainties", "expected"),
    [
        # factor 1: the second needs 2/3, the third 3/4, the fourth 4/5.
        (1.0, [0.95, 0.9, 0.8, 0.79], [0, 1, 2]),
        (1.0, [0.95, 0.66, 0.66, 0.66], [0]),
        (1.0, [0.1, 0.1], [0]),
        (1.0, [0.7, 0.95, 0.74], [1, 2]),
        (1.0, [0.9, 0.85, 0.82, 0.81], [0, 1, 2, 3]),
        # factor 2: the second needs 1/3, the third 1/2.
        (2.0, [0.4, 0.35, 0.49], [0, 2]),
        # A gap ends the prefix even if a later one would pass its own bound.
        (0.5, [0.99, 0.82, 0.9, 0.85], [0, 2]),
    ],
)
def test_factor_takes_the_longest_prefix_that_is_sure_enough(
    factor: float, certainties: list[float], expected: list[int]
) -> None:
    rule = strategy("factor", options={"factor": factor})
    assert select(rule, ranked(certainties)) == expected


def test_factor_reveals_one_when_everything_is_suppressed() -> None:
    assert select(strategy("factor"), ranked([-math.inf, -math.inf])) == [0]


def test_hierarchical_takes_one_of_each_run_and_the_overall_best() -> None:
    """Runs {0,1,2}, {5,6}, {9}: best 0.5, 0.45 and 0.3; the last is not above 0.4."""
    positions = [0, 1, 2, 5, 6, 9]
    row = ranked([0.2, 0.5, 0.49, 0.45, 0.41, 0.3], positions)
    assert select(strategy("hierarchical"), row) == [1, 5]
    unsure = ranked([0.1, 0.2, 0.2, 0.3, 0.1, 0.3], positions)
    assert select(strategy("hierarchical"), unsure) == [5]
    high = strategy("hierarchical", options={"low": 0.6, "high": 0.44})
    assert select(high, row) == [1, 2, 5]
    assert select(strategy("hierarchical"), row, quota=6) == positions


def dense_credit(history: list[Tensor], decay: float, exponent: float, weight: float) -> Tensor:
    """The (N, V) table of credit decoding, one forward after the other; fused logits of the last."""
    credit = torch.zeros_like(history[0])
    for logits in history:
        credit *= decay
        for n, row in enumerate(logits):
            p = softmax(row.tolist())
            best = p.index(max(p))
            credit[n, best] += p[best] ** exponent
    return history[-1] + weight * torch.log(1 + credit)


def test_sparse_credit_equals_the_dense_table() -> None:
    from tabom_cli.core.decoding.strategies.base import Segment

    rule = strategy("credit", max_new_tokens=6, options={"decay": 0.7, "weight": 0.9})
    generator = torch.Generator().manual_seed(0)
    history = [torch.randn(6, 4, generator=generator) for _ in range(5)]
    memory: dict[str, Tensor] = {}
    for step, logits in enumerate(history):
        fused = torch.cat(
            [
                rule.adjust_logits(
                    logits[part].clone(),
                    [Segment(slice(0, len(range(6)[part])), torch.arange(6)[part], memory)],
                )
                for part in (slice(0, 2), slice(2, 6))
            ]
        )
        torch.testing.assert_close(fused, dense_credit(history[: step + 1], 0.7, 0.2, 0.9))


def test_credit_by_hand_over_two_forwards() -> None:
    """Logits (0, ln 3): p = 3/4, so the best id holds (3/4)^0.2, then 1.8 (3/4)^0.2."""
    from tabom_cli.core.decoding.strategies.base import Segment

    rule = strategy("credit", max_new_tokens=1)
    memory: dict[str, Tensor] = {}
    for factor in (1.0, 1.8):
        logits = torch.tensor([[0.0, math.log(3.0)]])
        fused = rule.adjust_logits(logits, [Segment(slice(0, 1), torch.tensor([0]), memory)])
        assert float(fused[0, 0]) == 0.0
        assert float(fused[0, 1]) == pytest.approx(
            math.log(3.0) + 0.7 * math.log(1 + factor * 0.75**0.2)
        )


@pytest.mark.parametrize("steps", [6, 12, 24])
def test_a_credit_decode_equals_a_dense_one_and_forgets_at_each_block(steps: int) -> None:
    """Two blocks of 6; with 24 steps half of them come after the block is done."""
    policy, watcher = toy(12, seed=4, sway=1.0, scale=0.4), Watcher()
    settings = DecodeConfig(
        strategy="credit",
        steps=steps,
        max_new_tokens=12,
        block_length=6,
        schedule="even",
        options={"weight": 3.0, "decay": 0.95},
    )
    result = next(decode(policy, requests([3]), settings, observer=watcher))
    prompt = requests([3])[0].prompt_token_ids
    changed = 0
    for step, view in enumerate(watcher.before):
        block, inner = divmod(step, steps // 2)
        if inner == 0:
            credit = torch.zeros(12, VOCABULARY)
        canvas = [*prompt, *view.canvas_BT[0].tolist()]
        logits = policy.logits(policy.hidden(torch.tensor(canvas)[None])[0, -12:])
        raw_entropies = [plain_entropy(softmax(row)) for row in logits.tolist()]
        logits[:, MASK] = -math.inf
        credit *= 0.95
        masked = [r for r in range(6 * block, 6 * block + 6) if view.masked_BT[0, r]]
        for r in masked:
            best = int(logits[r].argmax())
            credit[r, best] += softmax(logits[r].tolist())[best] ** 0.2
        fused = logits + 3.0 * torch.log(1 + credit)
        surest = sorted(masked, key=lambda r: -max(softmax(fused[r].tolist())))
        count = {6: 2, 12: 1, 24: int(inner < 6)}[steps]
        changed += sum(int(fused[r].argmax()) != int(logits[r].argmax()) for r in masked)
        for r in range(12):
            assert (result.decoding_order[r] == step) == (r in surest[:count])
        for r in surest[:count]:
            assert result.response_token_ids[r] == int(fused[r].argmax())
            assert result.decoding_entropy[r] == pytest.approx(raw_entropies[r], abs=1e-5)
    assert result.num_forwards == {6: 6, 12: 12, 24: 12}[steps]
    assert next(decode(toy(12, seed=4, sway=1.0, scale=0.4), requests([3]), settings)) == result
    assert changed or steps == 6


def test_random_reveals_exact_counts_in_random_places() -> None:
    settings = DecodeConfig(strategy="random", steps=4, max_new_tokens=8, schedule="even")
    orders = [r.decoding_order for r in decode(toy(8), requests([3] * 30), settings)]
    assert all(sorted(order) == [0, 0, 1, 1, 2, 2, 3, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 20


def test_low_confidence_ranks_on_unnoised_logits_while_tokens_are_drawn() -> None:
    """Position 0 draws a rare token (low probability), position 1 has only one choice."""
    table = torch.full((2, VOCABULARY), -40.0)
    table[0, 1:9] = 0.0
    table[1, 3] = 0.0
    settings = DecodeConfig(
        strategy="low_confidence",
        steps=2,
        max_new_tokens=2,
        schedule="even",
        temperature=1.0,
        token_pick="sample",
    )
    for result in decode(ToyPolicy(table), requests([2] * 10), settings):
        assert result.decoding_order == [1, 0]
        assert result.response_token_ids[0] in range(1, 9)


def test_gumbel_and_inverse_cdf_draw_from_the_same_distribution() -> None:
    """2,000 answers of 1 token at temperature 0.5: frequencies within 4 standard errors of p."""
    table = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(3))
    table[0, MASK] = -math.inf
    wanted = softmax((table[0] / 0.5).tolist())
    for name in ("maskgit_plus", "low_confidence"):
        settings = DecodeConfig(
            strategy=name,
            steps=1,
            max_new_tokens=1,
            temperature=0.5,
            token_pick="sample",
            batch_size=500,
        )
        finite = table.clone()
        finite[0, MASK] = 0.0
        drawn = [
            r.response_token_ids[0]
            for r in decode(ToyPolicy(finite), requests([1] * 2000), settings)
        ]
        for token in range(VOCABULARY):
            error = 4 * math.sqrt(wanted[token] * (1 - wanted[token]) / 2000) + 1e-9
            assert abs(drawn.count(token) / 2000 - wanted[token]) <= error
    assert EOS in drawn


def test_positions_drawn_by_alg_temp_follow_the_softmax_of_their_certainty() -> None:
    """First of three draws with certainties (0, ln 2, ln 5) at temperature 1: 1/8, 2/8, 5/8."""
    row = ranked([0.0, math.log(2.0), math.log(5.0)])
    generator = torch.Generator().manual_seed(1)
    first = [int(drawn_order(row, 1.0, generator)[0]) for _ in range(4000)]
    for index, p in enumerate((1 / 8, 2 / 8, 5 / 8)):
        assert abs(first.count(index) / 4000 - p) < 4 * math.sqrt(p * (1 - p) / 4000)


@pytest.mark.parametrize(
    "name", ["low_confidence", "threshold", "factor", "hierarchical", "credit"]
)
def test_a_temperature_that_neither_draws_nor_ranks_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"decode\.temperature 0\.5 has no effect.*token_pick"):
        strategy(name, temperature=0.5)
    strategy(name, temperature=0.5, token_pick="sample")
    strategy("entropy", temperature=0.5)


def test_the_default_of_an_option_can_be_written_out() -> None:
    assert (
        strategy("hierarchical", options={"high": None}).options == strategy("hierarchical").options
    )
    with pytest.raises(RecipeError, match=r"decode\.options\.low"):
        strategy("hierarchical", options={"low": None})
