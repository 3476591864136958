"""The released training step, case by case: states, losses and gradients in parity mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from objective_toys import GivenLogits
from safetensors.torch import load_file

from tabom_cli.core.data.batch import Batch, TrainingRow, collate
from tabom_cli.core.objectives.base import Objective, PartialState, combine
from tabom_cli.core.objectives.nelbo import NelboConfig, NelboObjective
from tabom_cli.core.objectives.tabom import TabomConfig, TabomObjective

FOLDER = Path(__file__).parents[2] / "fixtures" / "losses"
CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((FOLDER / "losses.json").read_text())
}
TENSORS = load_file(FOLDER / "losses.safetensors")


def test_every_kind_of_released_loss_has_cases() -> None:
    schedules = [case["args"]["mask_schedule"] for case in CASES.values()]
    assert len(CASES) == 35
    assert {kind: schedules.count(kind) for kind in set(schedules)} == {
        "td": 30,
        "diffusion": 2,
        "fixed": 3,
    }


@pytest.mark.parametrize("name", CASES)
def test_state_equals_the_released_one(name: str) -> None:
    case = CASES[name]
    _, state = _prepare(case)
    prompt = TENSORS[f"{name}/prompt_input_ids"].shape[1]
    assert torch.equal(state.input_ids, TENSORS[f"{name}/x_in"])
    assert torch.equal(state.supervised_mask[:, prompt:], TENSORS[f"{name}/loss_mask"].bool())
    assert not state.supervised_mask[:, :prompt].any()
    if f"{name}/model_attention_mask" in TENSORS:
        expected = TENSORS[f"{name}/model_attention_mask"].bool()
        real = state.attention_mask
        pairs = real[:, None, :, None] & real[:, None, None, :]
        assert torch.equal(pairs if expected.ndim == 4 else real, expected)


@pytest.mark.parametrize(
    "name", [name for name in CASES if CASES[name]["args"]["mask_schedule"] == "td"]
)
def test_cut_range_equals_the_released_one(name: str) -> None:
    case = CASES[name]
    objective, batch = _objective(case), _batch(case)
    assert isinstance(objective, TabomObjective)
    bounds = objective.cut_bounds(batch).tolist()
    cuts = case["expected"]["cuts"]
    assert [bound >= 0 for bound in bounds] == [cut is not None for cut in cuts]
    if not case["expected"]["choice_candidates"]:
        assert [bound for bound in bounds if bound >= 0] == case["expected"]["cut_upper_bounds"]


@pytest.mark.parametrize(("dtype", "suffix"), [(torch.float64, "f64"), (torch.float32, "f32")])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_the_released_ones(
    name: str, dtype: torch.dtype, suffix: str
) -> None:
    case = CASES[name]
    expected = case["expected"]
    objective, state = _prepare(case)
    logits = TENSORS[f"{name}/resp_logits"].to(dtype).requires_grad_()
    policy = GivenLogits(logits)
    terms = objective(state, policy)
    total = combine(terms.sums, state.counts, objective.weights)
    (total * case["loss_scale"]).backward()

    relative = 1e-9 if suffix == "f64" else 1e-4
    assert total.item() == pytest.approx(expected[f"returned_{suffix}"], rel=relative, abs=1e-12)
    if not expected["forward_skipped"]:
        assert terms.sums["ce"].item() == pytest.approx(expected[f"loss_ce_{suffix}"], rel=relative)
        if case["args"]["mask_schedule"] == "td" and case["args"]["entropy_rank_reg"]:
            rank = terms.sums["rank"].item()
            assert rank == pytest.approx(expected[f"loss_rank_{suffix}"], rel=relative, abs=1e-12)
    assert policy.head_rows == expected["loss_tokens"]
    assert logits.grad is not None
    torch.testing.assert_close(
        logits.grad,
        TENSORS[f"{name}/grad_{suffix}"],
        rtol=0.0,
        atol=1e-10 if suffix == "f64" else 1e-5,
    )


@pytest.mark.parametrize("name", ["td_ling_coder_non_ltr", "td_ling_coder_no_candidate"])
def test_non_ltr_cuts_come_from_the_released_candidates(name: str) -> None:
    case = CASES[name]
    objective, batch = _objective(case), _batch(case)
    assert isinstance(objective, TabomObjective)
    allowed = case["expected"]["choice_candidates"] or [
        list(range(upper + 1)) for upper in case["expected"]["cut_upper_bounds"]
    ]
    seen: list[set[int]] = [set(), set()]
    for seed in range(200):
        generators = [torch.Generator().manual_seed(seed + 1000 * row) for row in range(2)]
        for row, cut in enumerate(objective.draw_cuts(batch, generators).cut.tolist()):
            seen[row].add(cut)
    assert [sorted(cuts) for cuts in seen] == allowed


def _batch(case: dict[str, Any]) -> Batch:
    name, length = case["name"], case["args"]["max_new_tokens"]
    prompts, real = (TENSORS[f"{name}/prompt_{key}"] for key in ("input_ids", "attention_mask"))
    rows = []
    for index, labels in enumerate(TENSORS[f"{name}/labels"].tolist()):
        order = case["decoding_order"][index]
        # The loader's rule for a missing or short order is not the objective's business.
        order = list(range(length)) if order is None or len(order) < length else order
        non_ltr = case.get("non_ltr_positions", [None] * len(prompts))[index]
        rows.append(
            TrainingRow(
                sample_id=f"{name}/{index}",
                group_id=f"{name}/{index}",
                prompt_token_ids=tuple(prompts[index][real[index].bool()].tolist()),
                response_token_ids=tuple(labels),
                decoding_order=tuple(order),
                non_ltr_positions=tuple(non_ltr or ()),
            )
        )
    return collate(rows, response_length=length, pad_token_id=case["pad_id"])


def _objective(case: dict[str, Any]) -> Objective:
    args = case["args"]
    padding = args["mask_include_padding_resp"]
    if args["mask_schedule"] == "td":
        return TabomObjective(
            TabomConfig(
                parity="release",
                supervision_window=args["td_supervision_window"],
                rank_window=args["entropy_rank_window"],
                rank_margin=args["entropy_rank_margin"],
                rank_weight=args["entropy_rank_lambda"] if args["entropy_rank_reg"] else 0.0,
                cut_sampler="non_ltr" if args["ling_coder_td_non_ltr_cut"] else "uniform",
                include_padding=padding,
            )
        )
    if args["mask_schedule"] == "fixed":
        ratio = args["groundtruth_mask_ratio"]
        return NelboObjective(
            NelboConfig(parity="release", masking="fixed", ratio=ratio, include_padding=padding)
        )
    low, high = args["diffusion_min_t"], args["diffusion_max_t"]
    return NelboObjective(
        NelboConfig(parity="release", t_min=low, t_max=high, include_padding=padding)
    )


def _prepare(case: dict[str, Any]) -> tuple[Objective, PartialState]:
    """The objective and its state with the recorded draws put in."""
    name = case["name"]
    objective, batch = _objective(case), _batch(case)
    if isinstance(objective, TabomObjective):
        cuts = iter(case["cuts_in"])
        bounds = objective.cut_bounds(batch).tolist()
        given = torch.tensor([next(cuts) if bound >= 0 else -1 for bound in bounds])
        return objective, objective.state_at(
            batch, objective.windows_at(batch, given), case["mask_id"]
        )
    assert isinstance(objective, NelboObjective)
    if objective.config.masking == "diffusion":
        prompt = TENSORS[f"{name}/prompt_input_ids"].shape[1]
        uniforms = TENSORS[f"{name}/rand_u"][:, prompt:]
        draw = objective.diffusion_mask(batch, TENSORS[f"{name}/rand_t"], uniforms)
        return objective, objective.state_at(batch, draw, case["mask_id"])
    permutations = iter(case["perms"])
    real = batch.response_mask & ~batch.padding_mask
    maskable = batch.response_mask if objective.config.include_padding else real
    given_permutations = [
        torch.tensor(next(permutations) if size else [], dtype=torch.int64)
        for size in maskable.sum(dim=1).tolist()
    ]
    ratio = float(case["args"]["groundtruth_mask_ratio"])
    draw = objective.fixed_mask(batch, [ratio] * len(given_permutations), given_permutations)
    return objective, objective.state_at(batch, draw, case["mask_id"])
