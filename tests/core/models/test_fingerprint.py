"""Hashes of loaded weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tabom_cli.core.models.fingerprint import part_hashes, weights_hash


def one_parameter(values: torch.Tensor) -> nn.Module:
    module = nn.Module()
    module.weight = nn.Parameter(values, requires_grad=False)
    return module


@pytest.mark.parametrize("numel", [1, 2, 63, 64, 65, 2**24 + 1, 152_064 * 3_584, 2**31 + 5])
def test_parameters_of_any_size_can_be_hashed(numel: int) -> None:
    # One stored value seen `numel` times: the size of a real embedding without its memory.
    assert len(weights_hash(one_parameter(torch.zeros(1).expand(numel)))) == 24


@pytest.mark.parametrize("index", [0, -1])
@pytest.mark.parametrize("numel", [3, 1000, 2**24 + 1])
def test_the_ends_of_a_parameter_count(numel: int, index: int) -> None:
    values = torch.zeros(numel, dtype=torch.bfloat16)
    before = weights_hash(one_parameter(values))
    values[index] = 1.0
    assert weights_hash(one_parameter(values)) != before


def test_name_shape_and_precision_count() -> None:
    values = torch.zeros(4, 6)
    other = nn.Module()
    other.bias = nn.Parameter(values)
    same = [one_parameter(values), one_parameter(torch.zeros(4, 6))]
    different = [*same[:1], other, one_parameter(values.T), one_parameter(values.half())]
    assert len({weights_hash(module) for module in same}) == 1
    assert len({weights_hash(module) for module in different}) == 4


def test_a_base_has_one_hash_with_and_without_its_adapter() -> None:
    base, wrapped = nn.Module(), nn.Module()
    values = torch.arange(6.0)
    base.q_proj = one_parameter(values)
    wrapped.base_model = nn.Module()
    wrapped.base_model.model = nn.Module()
    wrapped.base_model.model.q_proj = nn.Module()
    wrapped.base_model.model.q_proj.base_layer = one_parameter(values)
    wrapped.base_model.model.q_proj.lora_A = one_parameter(torch.ones(2))
    assert part_hashes(base) == (part_hashes(wrapped)[0], None)
    assert part_hashes(wrapped)[1] is not None
