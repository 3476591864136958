"""The interface of a decode strategy, and the selection rules that strategies share.

A strategy file exposes `STRATEGY`, a subclass of `Strategy`; its own settings are the class's `Options`.
Knows candidates, not models, rows or canvases.
Shape letters: N candidate positions of a chunk (several rows), n those of one row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import ValidationError
from torch import Generator, Tensor

from tabom_cli.core import plugins
from tabom_cli.core.config import Section
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.proposal import Candidates, draws_tokens
from tabom_cli.core.errors import RecipeError


class NoOptions(Section):
    """For strategies without settings of their own."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """One row's candidates with their certainties, on the CPU.

    Attributes:
        positions_n: (n,) int64 response positions, ascending.
        certainty_n: (n,) certainty, -inf where an end token is to wait (`eos_suppression`).
        order_n: (n,) int64 indices into the above, most certain first. Ties go to the lowest position;
            suppressed positions come last, by their own certainty.
    """

    positions_n: Tensor
    certainty_n: Tensor
    order_n: Tensor


@dataclass(frozen=True, eq=False)
class Segment:
    """The part of a chunk that belongs to one row.

    Attributes:
        chunk_rows: Which of the chunk's N rows.
        positions_n: (n,) int64 their response positions.
        memory: What the strategy keeps for this row within the current block.
    """

    chunk_rows: slice
    positions_n: Tensor
    memory: dict[str, Tensor]


class Strategy:
    """Ranks masked positions and picks those to reveal.

    Subclasses give a certainty; the rest has defaults that follow the schedule of the recipe.
    """

    Options: ClassVar[type[Section]] = NoOptions
    ignored_settings: ClassVar[Mapping[str, str]] = {}
    """Settings this strategy would ignore, with the reason; setting one is an error."""
    ranks_raw: ClassVar[bool] = False
    """What `confidence_temperature: null` means: rank on the unmodified distribution."""
    uses_gumbel: ClassVar[bool] = False
    """Draw tokens by Gumbel noise (LLaDA) rather than by inverse CDF (Dream)."""
    fixed_counts: ClassVar[bool] = True
    """The schedule says how many positions a step reveals; False: `select` does."""
    needs_every_step: ClassVar[bool] = False
    """Look at the candidates even at steps that reveal nothing."""

    def __init__(self, config: DecodeConfig, options: Section) -> None:
        """Keep the settings; use `create` to check them first."""
        self.config = config
        self.options = options

    @classmethod
    def conflicts(cls, config: DecodeConfig) -> list[str]:
        """One sentence for each setting that this strategy would ignore."""
        fields = type(config).model_fields
        found = [
            f"decode.{key} has no effect with strategy '{config.strategy}': {reason}"
            for key, reason in cls.ignored_settings.items()
            if getattr(config, key) != fields[key].default
        ]
        if cls.ranks_raw and config.temperature > 0.0 and not draws_tokens(config):
            found.append(
                f"decode.temperature {config.temperature:g} has no effect with strategy "
                f"'{config.strategy}' and token_pick 'argmax': set decode.token_pick to sample, or the "
                "temperature to 0"
            )
        return found

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) how sure the model is at each candidate position; larger is revealed earlier."""
        raise NotImplementedError

    def preselect(self, num_masked: int, share: float, generator: Generator) -> Tensor | None:
        """Indices (n,) of the positions to reveal, if they can be chosen without a forward pass.

        Args:
            num_masked: Masked positions of the row's block.
            share: The schedule's chance of a position at this step.
            generator: The row's own.
        """
        return None

    def adjust_logits(self, logits_NV: Tensor, segments: Sequence[Segment]) -> Tensor:
        """Logits to propose and rank from; the recorded entropy stays that of the model's own."""
        return logits_NV

    def select(self, ranked: Ranked, quota: int | None, generator: Generator) -> Tensor:
        """Indices into the row's candidates that are revealed now.

        Args:
            ranked: The row's candidates, at least one.
            quota: How many; None when certainty decides.
            generator: The row's own, for drawing positions.
        """
        if quota is None:
            assert self.config.threshold is not None
            return at_least(ranked, self.config.threshold)
        order_n = ranked.order_n
        if self.config.alg_temp is not None and quota < len(order_n):
            order_n = drawn_order(ranked, self.config.alg_temp, generator)
        return order_n[:quota]


class CountsByRule(Strategy):
    """A strategy whose own rule decides how many positions a step reveals, ranking as LLaDA does."""

    ranks_raw = True
    fixed_counts = False
    ignored_settings: ClassVar[Mapping[str, str]] = {
        key: "the strategy's own rule decides which and how many positions are revealed"
        for key in ("tokens_per_step", "threshold", "alg_temp")
    }


def create(config: DecodeConfig) -> Strategy:
    """The strategy that a decode section names, with its options checked.

    Raises:
        RecipeError: Unknown strategy, bad options, or settings it would ignore; all faults at once.
    """
    kind: type[Strategy] = plugins.load("decode strategy", config.strategy).STRATEGY
    faults = kind.conflicts(config)
    options: Section = kind.Options.model_construct()
    try:
        options = kind.Options.model_validate(config.options)
    except ValidationError as error:
        faults += [_option_fault(kind.Options, fault) for fault in error.errors()]
    if faults:
        raise RecipeError(
            "\n".join(faults), hint=f"strategy '{config.strategy}' takes {_describe(kind.Options)}"
        )
    return kind(config, options)


def rank(positions_n: Tensor, certainty_n: Tensor, suppressed_n: Tensor) -> Ranked:
    """Sort one row's candidates, most certain first, ties by position, suppressed ones last."""
    by_certainty = torch.sort(certainty_n, descending=True, stable=True).indices
    last = torch.sort(suppressed_n[by_certainty].to(torch.int8), stable=True).indices
    shown_n = certainty_n.masked_fill(suppressed_n, float("-inf"))
    return Ranked(positions_n=positions_n, certainty_n=shown_n, order_n=by_certainty[last])


def at_least(ranked: Ranked, threshold: float) -> Tensor:
    """Indices of all candidates whose certainty reaches the threshold, else of the best one."""
    num_certain = int((ranked.certainty_n >= threshold).sum())
    return ranked.order_n[: max(1, num_certain)]


def drawn_order(ranked: Ranked, temperature: float, generator: Generator) -> Tensor:
    """Indices in the order of draws without replacement from softmax(certainty / temperature).

    Adding Gumbel noise and sorting gives the same law (Plackett-Luce) as drawing one by one.
    """
    uniforms_n = torch.rand(len(ranked.order_n), generator=generator, dtype=torch.float64)
    noise_n = -torch.log(-torch.log(uniforms_n.clamp_(min=1e-300)))
    keys_n = ranked.certainty_n.double() / temperature + noise_n
    best_first = torch.sort(keys_n[ranked.order_n], descending=True, stable=True).indices
    return ranked.order_n[best_first]


def _option_fault(options: type[Section], fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    near = plugins.nearest(key, list(options.model_fields))
    suffix = f" (did you mean '{near}'?)" if near and near != key else ""
    return f"decode.options.{key}: {fault['msg']}{suffix}"


def _describe(options: type[Section]) -> str:
    fields = options.model_fields
    if not fields:
        return "no options"
    return "the options " + ", ".join(f"{key} (default {f.default})" for key, f in fields.items())
