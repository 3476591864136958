"""The denoising loop against a plain reference, known orders and hand-worked counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from decoding_toys import (
    EOS,
    MASK,
    PAD,
    VOCABULARY,
    ToyPolicy,
    Watcher,
    plain_decode,
    plain_entropy,
    requests,
    softmax,
    toy,
)

from tabom_cli.core.decoding import layout, sampler
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.records import DecodeRequest
from tabom_cli.core.decoding.scheduler import decode
from tabom_cli.core.errors import DataError, RecipeError, RunError

SETTINGS: list[dict[str, Any]] = [
    {"strategy": "entropy", "steps": 12},
    {"strategy": "entropy", "steps": 5, "temperature": 0.7, "top_p": 0.8},
    {"strategy": "entropy", "steps": 12, "temperature": 0.7, "top_p": 0.9, "token_pick": "sample"},
    {"strategy": "entropy", "steps": 7, "temperature": 0.4, "confidence_temperature": 1.0},
    {"strategy": "entropy", "steps": 20, "schedule": "even"},
    {"strategy": "entropy", "steps": 24},
    {"strategy": "entropy", "steps": 12, "tokens_per_step": 3},
    {"strategy": "entropy", "steps": 3, "tokens_per_step": 2},
    {"strategy": "entropy", "steps": 12, "threshold": 0.5},
    {"strategy": "entropy", "steps": 2, "threshold": 0.999},
    {"strategy": "maskgit_plus", "steps": 6, "temperature": 1.3, "top_k": 3},
    {"strategy": "maskgit_plus", "steps": 6, "temperature": 1.0, "token_pick": "sample"},
    {
        "strategy": "maskgit_plus",
        "steps": 12,
        "temperature": 0.5,
        "top_p": 0.95,
        "top_k": 4,
        "confidence_temperature": 2.0,
        "token_pick": "sample",
    },
    {"strategy": "topk_margin", "steps": 9, "schedule": "even"},
    {"strategy": "topk_margin", "steps": 12, "temperature": 2.0, "top_p": 0.7},
    {"strategy": "low_confidence", "steps": 6, "block_length": 4, "schedule": "even"},
    {"strategy": "low_confidence", "steps": 12, "eos_suppression": "logits"},
    {"strategy": "entropy", "steps": 8, "block_length": 3},
    {"strategy": "entropy", "steps": 7, "block_length": 6},
    {"strategy": "entropy", "steps": 24, "block_length": 3, "schedule": "even"},
    {"strategy": "entropy", "steps": 12, "block_length": 4, "threshold": 0.6},
    {"strategy": "entropy", "steps": 12, "block_length": 4, "tokens_per_step": 3},
]


def config(**settings: Any) -> DecodeConfig:
    return DecodeConfig(**{"max_new_tokens": 12, "steps": 12, **settings})


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_loop_equals_the_plain_reference(settings: dict[str, Any], batch_size: int) -> None:
    policy = toy(12, seed=3)
    wanted = [
        plain_decode(policy, request, config(**settings))[0] for request in requests([5, 2, 7, 5])
    ]
    results = list(
        decode(policy, requests([5, 2, 7, 5]), config(**settings, batch_size=batch_size))
    )
    by_id = {result.id: result for result in results}
    assert len(results) == len(wanted)
    for want in wanted:
        got = by_id[want.id]
        assert got.response_token_ids == want.response_token_ids
        assert got.decoding_order == want.decoding_order
        assert got.decoding_entropy == pytest.approx(want.decoding_entropy, abs=1e-4)
        assert (got.num_steps, got.num_forwards) == (want.num_steps, want.num_forwards)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_replaying_the_order_gives_every_intermediate_state(settings: dict[str, Any]) -> None:
    watcher = Watcher()
    policy = toy(12, seed=5)
    result = next(decode(policy, requests([4]), config(**settings), observer=watcher))
    assert [int(view.step_B) for view in watcher.after] == list(range(result.num_steps))
    for step, (before, after) in enumerate(zip(watcher.before, watcher.after, strict=True)):
        for view, shown in ((before, step), (after, step + 1)):
            replayed = [
                token if 0 <= o < shown else MASK
                for token, o in zip(result.response_token_ids, result.decoding_order, strict=True)
            ]
            assert view.canvas_BT[0].tolist() == replayed
            assert view.masked_BT[0].tolist() == [token == MASK for token in replayed]
            assert torch.equal(torch.isnan(view.entropy_BT), ~view.masked_BT)
        for r, o in enumerate(result.decoding_order):
            if o == step:
                assert float(before.entropy_BT[0, r]) == result.decoding_entropy[r]


def test_fixed_logits_are_decoded_in_the_order_of_their_certainty() -> None:
    """Peaks of height 5, 1, 4, 2, 3 at positions 0..4: most peaked first, one a step."""
    table = torch.zeros(5, VOCABULARY)
    for position, height in enumerate((5.0, 1.0, 4.0, 2.0, 3.0)):
        table[position, position + 1] = height
    result = next(
        decode(
            ToyPolicy(table),
            requests([3]),
            DecodeConfig(steps=5, max_new_tokens=5, schedule="even"),
        )
    )
    assert result.response_token_ids == [1, 2, 3, 4, 5]
    assert result.decoding_order == [0, 4, 1, 3, 2]
    for position, height in enumerate((5.0, 1.0, 4.0, 2.0, 3.0)):
        by_hand = plain_entropy(softmax([height] + [0.0] * (VOCABULARY - 1)))
        assert result.decoding_entropy[position] == pytest.approx(by_hand, abs=1e-6)


def test_steps_equal_to_length_reveal_nothing_first_and_two_at_last() -> None:
    """Dream's schedule rounds down, so its first step is empty and needs no forward pass."""
    policy = toy(12)
    result = next(decode(policy, requests([4]), config()))
    counts = [result.decoding_order.count(step) for step in range(12)]
    assert counts == [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]
    assert (result.num_steps, result.num_forwards, policy.num_forwards) == (12, 11, 11)


def test_an_observer_sees_empty_steps_and_changes_nothing() -> None:
    plain = next(decode(toy(12), requests([4]), config()))
    policy, watcher = toy(12), Watcher()
    watched = next(decode(policy, requests([4]), config(), observer=watcher))
    assert watched == plain
    assert policy.num_forwards == len(watcher.before) == 12


def test_equal_certainties_are_revealed_from_the_left() -> None:
    table = torch.zeros(8, VOCABULARY)
    table[:, 3] = 2.0
    result = next(
        decode(
            ToyPolicy(table),
            requests([2]),
            DecodeConfig(steps=4, max_new_tokens=8, schedule="even"),
        )
    )
    assert result.decoding_order == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_mask_id_is_never_emitted_even_if_the_model_wants_it() -> None:
    table = torch.randn(12, VOCABULARY, generator=torch.Generator().manual_seed(1))
    table[:, MASK] = 30.0
    for settings in ({}, {"temperature": 1.0, "token_pick": "sample"}, {"threshold": 0.9}):
        result = next(decode(ToyPolicy(table), requests([2]), config(**settings)))
        assert MASK not in result.response_token_ids
        assert min(result.decoding_order) >= 0


def test_the_recorded_entropy_counts_the_mask_id_and_ignores_temperature_and_filters() -> None:
    table = torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(1))
    settings = DecodeConfig(steps=4, max_new_tokens=4, temperature=0.1, top_p=0.5, top_k=2)
    result = next(decode(ToyPolicy(table), requests([2]), settings))
    for r in range(4):
        assert result.decoding_entropy[r] == pytest.approx(
            plain_entropy(softmax(table[r].tolist())), abs=1e-5
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "entropy"},
        {"strategy": "entropy", "temperature": 0.8, "token_pick": "sample", "top_p": 0.9},
        {"strategy": "entropy", "alg_temp": 0.5, "temperature": 0.8, "token_pick": "sample"},
        {"strategy": "entropy", "threshold": 0.6, "temperature": 0.8, "token_pick": "sample"},
        {"strategy": "origin", "temperature": 1.0, "token_pick": "sample"},
        {
            "strategy": "low_confidence",
            "temperature": 1.0,
            "token_pick": "sample",
            "block_length": 4,
        },
        {"strategy": "random", "temperature": 0.5, "token_pick": "sample"},
        {"strategy": "threshold", "block_length": 6},
        {"strategy": "credit", "block_length": 6, "schedule": "even", "steps": 6},
        {"strategy": "hierarchical"},
        {"strategy": "entropy", "stop_behind_eos": True, "threshold": 0.3},
    ],
    ids=str,
)
def test_answers_do_not_depend_on_batch_mates(settings: dict[str, Any]) -> None:
    """Rows of unequal prompts, together or alone, in any order: equal tokens, orders and counts."""
    policy = toy(12, seed=8)
    rows = requests([3, 9, 1, 6, 6, 2, 11])
    alone = {r.id: r for request in rows for r in decode(policy, [request], config(**settings))}
    for batch_size, sequence in ((7, rows), (2, rows), (3, rows[::-1])):
        together = list(decode(policy, sequence, config(**settings, batch_size=batch_size)))
        assert {result.id for result in together} == set(alone)
        for result in together:
            single = alone[result.id]
            assert result.response_token_ids == single.response_token_ids
            assert result.decoding_order == single.decoding_order
            assert result.decoding_entropy == pytest.approx(single.decoding_entropy, abs=1e-4)
            assert (result.num_steps, result.num_forwards) == (
                single.num_steps,
                single.num_forwards,
            )


def test_another_seed_gives_another_answer_only_when_something_is_drawn() -> None:
    policy = toy(12, seed=8)
    prompt = requests([4])[0].prompt_token_ids
    pair = [DecodeRequest("a", prompt, 1), DecodeRequest("b", prompt, 2)]
    greedy = {r.id: r.response_token_ids for r in decode(policy, pair, config())}
    assert greedy["a"] == greedy["b"]
    drawn = config(temperature=1.5, token_pick="sample")
    sampled = {r.id: r.response_token_ids for r in decode(policy, pair, drawn)}
    assert sampled["a"] != sampled["b"]


def test_only_masked_positions_of_the_block_reach_the_head_in_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two blocks of 3 with one reveal a step: 3 + 2 + 1 candidates each, and each reveal once more."""
    monkeypatch.setattr(sampler, "CHUNK_POSITIONS", 4)
    policy = toy(6)
    settings = DecodeConfig(
        steps=6, max_new_tokens=6, block_length=3, schedule="even", batch_size=2
    )
    list(decode(policy, requests([2, 5]), settings))
    assert policy.num_head_positions == 2 * (2 * (3 + 2 + 1) + 6)
    assert policy.largest_head_call == 4


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(strategy="credit", block_length=6, batch_size=3)
    whole = list(decode(toy(12), requests([2, 5, 4]), settings))
    monkeypatch.setattr(sampler, "CHUNK_POSITIONS", 4)
    assert list(decode(toy(12), requests([2, 5, 4]), settings)) == whole


def test_tempered_and_filtered_ranking_is_degenerate_and_the_raw_one_is_not() -> None:
    """Dream issue 72: at T = 0.1 and top-p 0.9 most entropies are exactly 0 and ties decide."""
    generator = torch.Generator().manual_seed(2)
    table = torch.randn(64, VOCABULARY, generator=generator) * 1.5
    candidates = {}
    for temperature in (None, 1.0):
        settings = DecodeConfig(
            steps=64,
            max_new_tokens=64,
            schedule="even",
            temperature=0.1,
            top_p=0.9,
            confidence_temperature=temperature,
        )
        result = next(decode(ToyPolicy(table), requests([2]), settings))
        inversions = sum(
            result.decoding_order[a] > result.decoding_order[b]
            for a in range(64)
            for b in range(a, 64)
        )
        candidates[temperature] = inversions / (64 * 63 / 2)
    assert candidates[None] < 0.35
    assert 0.4 < candidates[1.0] < 0.6
    by_entropy = sorted(range(64), key=lambda r: plain_entropy(softmax(table[r, :MASK].tolist())))
    assert [result.decoding_order.index(step) for step in range(64)] == by_entropy


def test_origin_follows_the_chance_of_the_schedule_and_leaves_no_mask() -> None:
    """With 2 even steps every position is revealed at the first one with chance one half."""
    policy = toy(64)
    settings = DecodeConfig(strategy="origin", steps=2, max_new_tokens=64, schedule="even")
    firsts = [
        result.decoding_order.count(0) for result in decode(policy, requests([2] * 40), settings)
    ]
    assert 0.45 < sum(firsts) / (40 * 64) < 0.55
    assert len(set(firsts)) > 5


def test_alg_temp_draws_positions_and_a_tiny_one_is_greedy() -> None:
    policy = toy(12, seed=4)
    greedy = next(decode(policy, requests([3]), config()))
    cold = next(decode(policy, requests([3]), config(alg_temp=1e-6)))
    hot = next(decode(policy, requests([3]), config(alg_temp=100.0)))
    assert cold == greedy
    assert hot.decoding_order != greedy.decoding_order
    assert sorted(hot.decoding_order) == sorted(greedy.decoding_order)


def test_eos_suppression_by_logits_forbids_the_end_token_at_every_temperature() -> None:
    table = torch.zeros(12, VOCABULARY)
    table[:, EOS] = 20.0
    for temperature in (0.0, 1.0):
        settings = config(eos_suppression="logits", temperature=temperature, token_pick="sample")
        result = next(decode(ToyPolicy(table), requests([3]), settings))
        assert EOS not in result.response_token_ids


@pytest.mark.parametrize("temperature", [0.0, 0.2])
@pytest.mark.parametrize("strategy", ["entropy", "low_confidence", "random"])
def test_eos_suppression_by_confidence_reveals_end_tokens_last(
    strategy: str, temperature: float
) -> None:
    """End tokens are the surest proposals at even positions, yet come after all others."""
    table = torch.zeros(8, VOCABULARY)
    table[1::2, 4] = 5.0
    table[::2, EOS] = torch.tensor([6.0, 9.0, 8.0, 7.0])
    policy = ToyPolicy(table)
    settings = DecodeConfig(
        strategy=strategy,
        steps=8,
        max_new_tokens=8,
        schedule="even",
        eos_suppression="confidence",
        temperature=temperature,
        confidence_temperature=None if strategy == "random" else 1.0,
        token_pick="sample",
    )
    order = next(decode(policy, requests([3]), settings)).decoding_order
    assert max(order[1::2]) < min(order[::2])
    if strategy != "random":
        assert order[::2] == [7, 4, 5, 6]


def test_with_a_threshold_a_suppressed_position_waits_but_the_best_one_still_comes() -> None:
    table = torch.zeros(4, VOCABULARY)
    table[:, EOS] = torch.tensor([5.0, 8.0, 7.0, 6.0])
    settings = DecodeConfig(steps=4, max_new_tokens=4, threshold=0.5, eos_suppression="confidence")
    assert next(decode(ToyPolicy(table), requests([3]), settings)).decoding_order == [3, 0, 1, 2]


def test_end_ids_of_the_model_count_as_end_tokens() -> None:
    class WithTurnEnd(ToyPolicy):
        class ids:  # noqa: N801
            end = frozenset({EOS, 7})

    table = torch.zeros(3, VOCABULARY)
    table[0, 7], table[1, 3], table[2, EOS] = 20.0, 5.0, 15.0
    settings = DecodeConfig(
        steps=3, max_new_tokens=3, schedule="even", eos_suppression="confidence"
    )
    result = next(decode(WithTurnEnd(table), requests([3]), settings))
    assert result.decoding_order == [1, 0, 2]


def test_stopping_behind_an_end_token_fills_the_rest_with_padding() -> None:
    """Position 2 is the end; once 0 and 1 are decided everything behind is padding, step -1."""
    table = torch.zeros(6, VOCABULARY)
    for position, (token, height) in enumerate(
        ((3, 7.0), (4, 8.0), (EOS, 9.0), (5, 4.0), (6, 3.0))
    ):
        table[position, token] = height
    settings = DecodeConfig(steps=6, max_new_tokens=6, schedule="even", stop_behind_eos=True)
    result = next(decode(ToyPolicy(table), requests([3]), settings))
    assert result.response_token_ids == [3, 4, EOS, PAD, PAD, PAD]
    assert result.decoding_order == [2, 1, 0, -1, -1, -1]
    assert result.decoding_entropy[3:] == [-1.0, -1.0, -1.0]
    assert (result.num_steps, result.num_forwards) == (3, 3)
    off = settings.model_copy(update={"stop_behind_eos": False})
    assert next(decode(ToyPolicy(table), requests([3]), off)).num_steps == 6


def test_logits_that_are_not_finite_stop_the_run_and_name_the_request() -> None:
    class Broken(ToyPolicy):
        def logits(self, hidden: torch.Tensor) -> torch.Tensor:
            logits = super().logits(hidden)
            logits[hidden[:, 4] == 1.0, 2] = math.nan
            return logits

    with pytest.raises(RunError, match=r"'r0' \(step 1, response position 4\)"):
        list(decode(Broken(torch.zeros(12, VOCABULARY)), requests([3]), config()))
    with pytest.raises(RunError, match="'r0'"):
        list(
            decode(Broken(torch.zeros(12, VOCABULARY)), requests([3]), config(), observer=Watcher())
        )


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="'x'"):
        list(decode(toy(12), [DecodeRequest("x", (), 0)], config()))


def test_unknown_strategies_and_useless_settings_are_refused_before_decoding() -> None:
    with pytest.raises(RecipeError, match="unknown decode strategy 'entropi'"):
        decode(toy(12), [], config(strategy="entropi"))
    with pytest.raises(RecipeError) as caught:
        decode(
            toy(12),
            [],
            config(strategy="threshold", tokens_per_step=2, options={"treshold": 0.5}),
        )
    assert "decode.tokens_per_step" in caught.value.message
    assert "decode.options.treshold" in caught.value.message
    assert "did you mean 'threshold'" in caught.value.message
    with pytest.raises(RecipeError, match=r"decode\.options\.factor"):
        decode(toy(12), [], config(strategy="factor", options={"factor": -1.0}))


def test_segments_cover_a_chunk_that_cuts_rows() -> None:
    from tabom_cli.core.decoding.row import Plan, Row

    rows = [Row(request, response_length=6, mask_token_id=MASK) for request in requests([2, 2, 2])]
    plans = [Plan(torch.tensor(p), quota=1) for p in ([0, 1, 5], [], [2, 3])]
    found = layout.segments(rows, plans, slice(1, 4))
    assert [(s.chunk_rows, s.positions_n.tolist()) for s in found] == [
        (slice(0, 2), [1, 5]),
        (slice(2, 3), [2]),
    ]
