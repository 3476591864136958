"""Sums over micro-batches and processes, and the figures that metrics.jsonl gets from them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tabom_cli.core.objectives.base import LossTerms

Totals = dict[str, torch.Tensor]
"""Flat names (`sum/<term>`, `metric/<name>`, `count/<name>`) to float64 scalars."""


def accumulate(totals: Totals, terms: LossTerms, weight: float) -> None:
    """Add a micro-batch's detached sums and metrics, times its weight."""
    flat = {f"sum/{name}": value.detach() for name, value in terms.sums.items()}
    for name, (value, count) in terms.metrics.items():
        flat[f"metric/{name}"] = value.detach()
        flat[f"count/{name}"] = count.detach()
    for name, value in flat.items():
        scaled = value.double() * weight
        totals[name] = totals[name] + scaled if name in totals else scaled


def figures(
    values: Mapping[str, float], counts: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
    """Total loss, each term's mean (`loss_<term>`) and each metric's mean, from reduced sums."""
    terms = {
        name: values[f"sum/{name}"] / counts[name] if counts[name] else 0.0 for name in weights
    }
    names = [name.removeprefix("metric/") for name in values if name.startswith("metric/")]
    metrics = {
        name: values[f"metric/{name}"] / values[f"count/{name}"]
        for name in names
        if values[f"count/{name}"]
    }
    loss = sum(weights[name] * value for name, value in terms.items())
    return {"loss": loss, **{f"loss_{name}": value for name, value in terms.items()}, **metrics}
