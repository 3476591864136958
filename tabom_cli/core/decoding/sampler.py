"""The one denoising loop, a step at a time, with a record of what was revealed when and how surely.

Rows share a forward pass and nothing else: counts, steps, schedules and generators are each row's own,
so an answer does not depend on its batch mates. Choices are made on the CPU from one number per
position, which makes ties the same on every device. Does not know how batches are assembled.

Shape letters: B rows, P padded prompt length, T response length, L = P + T, D hidden width, V
vocabulary, M selected positions of all rows, N those of one chunk, n those of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.layout import check_finite, flat_index, segments, view
from tabom_cli.core.decoding.proposal import Candidates, draws_tokens
from tabom_cli.core.decoding.records import (
    DecodeRequest,
    DecodeResult,
    Observer,
    StepView,
)
from tabom_cli.core.decoding.row import Plan, Row
from tabom_cli.core.decoding.schedule import TransferSchedule
from tabom_cli.core.decoding.strategies.base import create, rank
from tabom_cli.core.errors import DataError
from tabom_cli.core.models.base import Policy
from tabom_cli.core.numerics import entropy, log_probs

__all__ = ["DecodeRequest", "DecodeResult", "Denoiser", "Observer", "StepView"]

CHUNK_POSITIONS = 512
"""Positions whose logits exist at one time: 512 x 152,064 float32 are 0.29 GiB."""


@dataclass(frozen=True, eq=False)
class _Proposed:
    """Tokens and certainties of the M needed positions, on the CPU."""

    token_M: Tensor
    certainty_M: Tensor
    suppressed_M: Tensor


class Denoiser:
    """Advances rows by one denoising step at a time.

    The caller admits requests, calls `step` with the rows it wants together, and takes out the finished
    ones. The model must be in evaluation mode; gradients are not recorded.
    """

    def __init__(
        self, model: Policy, config: DecodeConfig, *, observer: Observer | None = None
    ) -> None:
        """Check the strategy and its options and plan the schedule.

        Raises:
            RecipeError: Unknown strategy, or settings that it cannot use.
        """
        self._model = model
        self._config = config
        self._observer = observer
        self._strategy = create(config)
        self._schedule = TransferSchedule(config, fixed_counts=self._strategy.fixed_counts)
        self._device: torch.device = torch.device(getattr(model, "device", "cpu"))
        ids = getattr(model, "ids", None)
        self._end_ids: frozenset[int] = (
            frozenset({model.eos_token_id}) if ids is None else frozenset(ids.end)
        )
        self._forbidden = [model.mask_token_id]
        if config.eos_suppression == "logits":
            self._forbidden.append(model.eos_token_id)

    def admit(self, request: DecodeRequest) -> Row:
        """A fresh row for a request.

        Raises:
            DataError: The prompt has no tokens.
        """
        if not request.prompt_token_ids:
            raise DataError(
                f"request '{request.id}': the prompt has no tokens",
                hint="a rendered prompt holds at least the chat template's own tokens",
            )
        return Row(
            request,
            response_length=self._config.max_new_tokens,
            mask_token_id=self._model.mask_token_id,
        )

    @torch.no_grad()
    def step(self, rows: Sequence[Row]) -> None:
        """Take each row through its next forward pass.

        Steps at which a row can reveal nothing are counted and passed over; with an observer attached
        they are run, so that it sees every step.

        Raises:
            RunError: Logits are not finite; names the requests.
        """
        plans = [self._plan(row) for row in rows]
        hidden_BTD = self._hidden(rows)
        entropy_BT = None if self._observer is None else self._all_entropies(hidden_BTD, rows)
        if self._observer is not None and entropy_BT is not None:
            self._observer.before_reveal(view(rows, entropy_BT))
        chosen = self._choose(rows, plans, self._propose(hidden_BTD, rows, plans))
        self._reveal(hidden_BTD, rows, chosen, entropy_BT)
        if self._observer is not None and entropy_BT is not None:
            self._observer.after_reveal(view(rows, entropy_BT))
        for row in rows:
            row.advance(self._schedule)
            if self._config.stop_behind_eos:
                row.stop_behind(self._end_ids, self._model.pad_token_id)

    def _plan(self, row: Row) -> Plan:
        """The row's next forward pass that does something; counts the empty steps before it."""
        while True:
            plan = self._plan_step(row)
            works = len(plan.positions_n) > 0
            row.num_forwards += works
            if works or self._observer is not None:
                return plan
            row.advance(self._schedule)

    def _plan_step(self, row: Row) -> Plan:
        positions_n = row.masked_in(*self._schedule.block_range(row.block))
        num_masked = len(positions_n)
        share = self._schedule.share(row.block, row.block_step)
        preselected = self._strategy.preselect(num_masked, share, row.generator)
        if preselected is not None:
            return Plan(positions_n[preselected], quota=len(preselected), preselected=True)
        quota = self._schedule.quota(row.block, row.block_step, num_masked)
        if quota == 0 and not self._strategy.needs_every_step:
            positions_n = positions_n[:0]
        return Plan(positions_n, quota=quota)

    def _hidden(self, rows: Sequence[Row]) -> Tensor:
        """(B, T, D) hidden states of the response, from left-padded, masked rows."""
        width = max(len(row.prompt_P) for row in rows)
        length = width + self._config.max_new_tokens
        ids_BL = torch.full((len(rows), length), self._model.pad_token_id, dtype=torch.int64)
        mask_BL = torch.zeros((len(rows), length), dtype=torch.bool)
        for index, row in enumerate(rows):
            start = width - len(row.prompt_P)
            ids_BL[index, start:width] = row.prompt_P
            ids_BL[index, width:] = row.tokens_T
            mask_BL[index, start:] = True
        mask = None if bool(mask_BL.all()) else mask_BL.to(self._device)
        return self._model.hidden(ids_BL.to(self._device), mask)[:, width:]

    def _propose(self, hidden_BTD: Tensor, rows: Sequence[Row], plans: Sequence[Plan]) -> _Proposed:
        """Tokens and certainties at all needed positions, chunk by chunk."""
        flat_M = flat_index([plan.positions_n for plan in plans], hidden_BTD.shape[1])
        noise_M = self._noise(rows, plans)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for start in range(0, len(flat_M), CHUNK_POSITIONS):
            chunk = slice(start, min(start + CHUNK_POSITIONS, len(flat_M)))
            logits_NV = self._logits(hidden_BTD, flat_M[chunk]).to(torch.float32, copy=True)
            finite_N = torch.isfinite(logits_NV.sum(dim=-1))
            logits_NV[:, self._forbidden] = -torch.inf
            logits_NV = self._strategy.adjust_logits(logits_NV, segments(rows, plans, chunk))
            candidates = Candidates(logits_NV, self._config, ranks_raw=self._strategy.ranks_raw)
            if noise_M is not None:
                candidates.draw(noise_M[chunk], gumbel=self._strategy.uses_gumbel)
            if self._config.threshold is not None:
                certainty_N = candidates.top_probability
            else:
                certainty_N = self._strategy.certainty(candidates)
            parts.append((candidates.tokens.cpu(), certainty_N.cpu(), finite_N.cpu()))
        if not parts:
            nothing = torch.empty(0)
            return _Proposed(nothing.long(), nothing, nothing.bool())
        token_M, certainty_M, finite_M = (torch.cat(part) for part in zip(*parts, strict=True))
        check_finite(rows, [plan.positions_n for plan in plans], finite_M)
        suppressed_M = torch.zeros_like(finite_M)
        if self._config.eos_suppression == "confidence":
            suppressed_M = torch.isin(token_M, torch.tensor(sorted(self._end_ids)))
        return _Proposed(token_M, certainty_M, suppressed_M)

    def _noise(self, rows: Sequence[Row], plans: Sequence[Plan]) -> Tensor | None:
        """One random number per needed position, from each row's own generator; None when greedy."""
        if not draws_tokens(self._config):
            return None
        drawn: list[Tensor] = []
        for row, plan in zip(rows, plans, strict=True):
            size = (len(plan.positions_n),)
            if self._strategy.uses_gumbel:
                drawn.append(torch.randint(2**62, size, generator=row.generator))
            else:
                drawn.append(torch.rand(size, generator=row.generator, dtype=torch.float64))
        return torch.cat(drawn).to(self._device)

    def _choose(
        self, rows: Sequence[Row], plans: Sequence[Plan], proposed: _Proposed
    ) -> list[tuple[Tensor, Tensor]]:
        """Positions and tokens that each row reveals now."""
        sizes = [len(plan.positions_n) for plan in plans]
        split = zip(
            proposed.token_M.split(sizes),
            proposed.certainty_M.split(sizes),
            proposed.suppressed_M.split(sizes),
            strict=True,
        )
        chosen: list[tuple[Tensor, Tensor]] = []
        for row, plan, (token_n, certainty_n, suppressed_n) in zip(rows, plans, split, strict=True):
            if plan.preselected or plan.quota == 0:
                index_n = torch.arange(plan.quota or 0)
            else:
                ranked = rank(plan.positions_n, certainty_n, suppressed_n)
                index_n = self._strategy.select(ranked, plan.quota, row.generator)
            chosen.append((plan.positions_n[index_n], token_n[index_n]))
        return chosen

    def _reveal(
        self,
        hidden_BTD: Tensor,
        rows: Sequence[Row],
        chosen: Sequence[tuple[Tensor, Tensor]],
        entropy_BT: Tensor | None,
    ) -> None:
        """Write the tokens with their step and raw entropy."""
        positions = [positions_n for positions_n, _ in chosen]
        flat_M = flat_index(positions, self._config.max_new_tokens)
        if entropy_BT is None:
            entropy_M = self._entropies(hidden_BTD, flat_M)[0]
        else:
            entropy_M = entropy_BT.flatten()[flat_M]
        split = entropy_M.split([len(positions_n) for positions_n in positions])
        for row, (positions_n, token_n), entropy_n in zip(rows, chosen, split, strict=True):
            row.reveal(positions_n, token_n, entropy_n)

    def _all_entropies(self, hidden_BTD: Tensor, rows: Sequence[Row]) -> Tensor:
        """(B, T) float32 raw entropies of all masked positions, NaN elsewhere."""
        masked_BT = torch.stack([row.masked_T for row in rows])
        positions = [row.masked_in(0, len(row.masked_T)) for row in rows]
        flat_M = flat_index(positions, self._config.max_new_tokens)
        entropy_M, finite_M = self._entropies(hidden_BTD, flat_M)
        check_finite(rows, positions, finite_M)
        entropy_BT = torch.full(masked_BT.shape, torch.nan, dtype=torch.float32)
        entropy_BT[masked_BT] = entropy_M
        return entropy_BT

    def _entropies(self, hidden_BTD: Tensor, flat_M: Tensor) -> tuple[Tensor, Tensor]:
        """(M,) float32 raw entropies on the CPU, and whether they are finite."""
        if not len(flat_M):
            return torch.empty(0), torch.empty(0, dtype=torch.bool)
        parts = [
            entropy(log_probs(self._logits(hidden_BTD, index_N).float())).cpu()
            for index_N in flat_M.split(CHUNK_POSITIONS)
        ]
        entropy_M = torch.cat(parts)
        return entropy_M, torch.isfinite(entropy_M)

    def _logits(self, hidden_BTD: Tensor, index_N: Tensor) -> Tensor:
        """(N, V) logits of some response positions, in the model's dtype."""
        hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, index_N.to(self._device))
        return self._model.logits(hidden_ND)
