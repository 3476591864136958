"""One released training step through a tiny base and its adapter: state, loss, gradients, update."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tabom_cli.core import plugins
from tabom_cli.core.data.batch import TrainingRow, collate
from tabom_cli.core.models.base import DiffusionLM, SpecialIds
from tabom_cli.core.models.config import LoraConfig, ModelConfig
from tabom_cli.core.models.load import find_source, load_network
from tabom_cli.core.models.lora import load_adapter, trainable_parameters
from tabom_cli.core.objectives.base import PartialState, combine
from tabom_cli.core.objectives.tabom import TabomConfig, TabomObjective

FIXTURES = Path(__file__).parents[2] / "fixtures"
CASES = json.loads((FIXTURES / "train_step/train_step.json").read_text())
TENSORS = load_file(FIXTURES / "train_step/train_step.safetensors")
FAMILIES = {"dream_gqa": "dream", "llada_mha": "llada"}


@dataclass(frozen=True)
class Step:
    """A case with everything that computes it."""

    case: dict[str, Any]
    objective: TabomObjective
    state: PartialState
    model: DiffusionLM


def test_both_families_have_a_recorded_step() -> None:
    assert CASES.keys() == FAMILIES.keys()
    assert set(FAMILIES.values()) <= set(plugins.names("model family"))


@pytest.fixture(params=CASES)
def step(request: pytest.FixtureRequest) -> Step:
    name = request.param
    case = CASES[name]
    model = _model(name)
    prompts, real = (TENSORS[f"{name}/prompt_{key}"] for key in ("input_ids", "attention_mask"))
    labels = TENSORS[f"{name}/labels"]
    rows = [
        TrainingRow(
            sample_id=str(row),
            group_id=str(row),
            prompt_token_ids=tuple(prompts[row][real[row].bool()].tolist()),
            response_token_ids=tuple(labels[row].tolist()),
            decoding_order=tuple(case["decoding_order"][row]),
        )
        for row in range(len(labels))
    ]
    batch = collate(rows, response_length=labels.shape[1], pad_token_id=model.pad_token_id)
    objective = TabomObjective(
        TabomConfig(
            parity="release",
            supervision_window=case["M"],
            rank_window=case["W"],
            rank_margin=case["margin"],
            rank_weight=case["lambda"],
            include_padding=case["include_padding"],
        )
    )
    cuts = objective.windows_at(batch, torch.tensor(case["cuts"]))
    return Step(case, objective, objective.state_at(batch, cuts, model.mask_token_id), model)


def test_state_equals_the_recorded_one(step: Step) -> None:
    name = step.case["model"]
    prompt = TENSORS[f"{name}/prompt_input_ids"].shape[1]
    assert torch.equal(step.state.input_ids, TENSORS[f"{name}/x_in"])
    recorded = TENSORS[f"{name}/loss_mask"].bool()
    assert torch.equal(step.state.supervised_mask[:, prompt:], recorded)


def test_loss_and_adapter_gradients_equal_the_recorded_ones(step: Step) -> None:
    name, expected = step.case["model"], step.case["expected"]
    terms = _backward(step)
    assert terms["total"] == pytest.approx(expected["returned_f64"], abs=1e-4)
    assert terms["ce"] == pytest.approx(expected["loss_ce_f64"], abs=1e-4)
    assert terms["rank"] == pytest.approx(expected["loss_rank_f64"], abs=1e-4)
    gradients = _by_recorded_name(step, gradient=True)
    recorded = _recorded(name, "grad_f64")
    assert gradients.keys() == recorded.keys()
    for key, value in recorded.items():
        torch.testing.assert_close(gradients[key].double(), value, rtol=0.0, atol=2e-4)


def test_adapter_after_clipping_and_one_adamw_step_equals_the_recorded_one(step: Step) -> None:
    name, case = step.case["model"], step.case
    _backward(step)
    unclipped = _by_recorded_name(step, gradient=True)
    parameters = [parameter for _, parameter in trainable_parameters(step.model.network)]
    norm = torch.nn.utils.clip_grad_norm_(parameters, case["max_grad_norm"])
    assert norm.item() == pytest.approx(case["expected"]["grad_norm_f64"], rel=1e-4)
    torch.optim.AdamW(parameters, lr=case["lr"], weight_decay=case["weight_decay"]).step()
    values = _by_recorded_name(step, gradient=False)
    compared = 0
    for key, recorded in _recorded(name, "after_step_f64").items():
        # AdamW's first step is the gradient's sign, which rounding decides where it is almost zero.
        clear = unclipped[key].abs() > 1e-2
        compared += int(clear.sum())
        torch.testing.assert_close(
            values[key].double()[clear], recorded[clear], rtol=0.0, atol=1e-4
        )
    assert compared > 100


def _backward(step: Step) -> dict[str, float]:
    terms = step.objective(step.state, step.model)
    total = combine(terms.sums, step.state.counts, step.objective.weights)
    total.backward()
    return {"total": total.item(), **{key: value.item() for key, value in terms.sums.items()}}


def _model(name: str) -> DiffusionLM:
    folder = FIXTURES / "models" / name
    values = json.loads((folder / "config.json").read_text())
    adapter = json.loads((FIXTURES / "lora" / name / "adapter_config.json").read_text())
    source = find_source(str(folder))
    network = load_network(source, ModelConfig(path=str(folder), dtype="float32"))
    network = load_adapter(
        network,
        str(FIXTURES / "lora" / name),
        base=source.name,
        family=FAMILIES[name],
        lora=LoraConfig(
            rank=adapter["r"],
            alpha=adapter["lora_alpha"],
            target_modules=tuple(adapter["target_modules"]),
        ),
    )
    eos = values["eos_token_id"]
    ids = SpecialIds(
        mask=values["mask_token_id"], eos=eos, pad=values["pad_token_id"], end=frozenset({eos})
    )
    return DiffusionLM(FAMILIES[name], network, None, ids, name)


def _recorded(model: str, kind: str) -> dict[str, Tensor]:
    prefix = f"{model}/{kind}/"
    return {key[len(prefix) :]: TENSORS[key] for key in TENSORS if key.startswith(prefix)}


def _by_recorded_name(step: Step, *, gradient: bool) -> dict[str, Tensor]:
    """Adapter tensors or their gradients, under the names of adapter files."""
    found = {}
    for name, parameter in trainable_parameters(step.model.network):
        value = parameter.grad if gradient else parameter.detach()
        assert value is not None
        found[name.replace(".default", "")] = value.clone()
    return found
