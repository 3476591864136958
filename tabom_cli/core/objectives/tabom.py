"""TABOM: cross-entropy on a window of a decoding trajectory plus an entropy ranking loss.

A trajectory is cut at a random step; what was decoded before stays visible, the tokens of the next
steps are learned, and among them a token that was decoded earlier must be predicted with less
entropy. Two arithmetics: `release` reproduces the published training, `repaired` (default) what the
paper describes, with the release's blind spots removed. Does not know files, recipes or optimizers.

Source: the TABOM paper, Eq. 8 and 9; the release's training step for `parity: release`.

Shape letters: B batch, L sequence, K packed supervised tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tabom_cli.core.config import Section
from tabom_cli.core.data.batch import Batch
from tabom_cli.core.errors import DataError
from tabom_cli.core.models.base import Policy
from tabom_cli.core.objectives import ranking, scoring, states
from tabom_cli.core.objectives.base import LossTerms, Objective, PartialState


class TabomConfig(Section):
    """Settings of the trajectory objective."""

    parity: Literal["release", "repaired"] = "repaired"
    """`release` keeps the original arithmetic (micro-batch means, log(p + 1e-10), non-finite logits
    replaced, ties by slot, last step unreachable, short trajectories unused); `repaired` counts
    globally and is exact."""
    supervision_window: int = Field(32, ge=0)
    """M: decoding steps behind the cut whose tokens are learned."""
    rank_window: int = Field(32, ge=0)
    """W: decoding steps behind the cut whose tokens are ranked; at most the supervision window."""
    rank_margin: float = Field(0.1, ge=0.0)
    """m: entropy gap in nats that a later token must keep above an earlier one."""
    rank_weight: float = Field(1.0, ge=0.0)
    """lambda: factor of the ranking loss; 0 trains on trajectory states alone."""
    cut_sampler: Literal["uniform", "non_ltr"] = "uniform"
    """Cuts from all steps, or from the steps that left the left-to-right order where there are any."""
    include_padding: bool = True
    """Learn and rank the padding slots behind the answer too."""
    window: Literal["local", "global"] = "local"
    """`global` learns and ranks everything from the cut to the last step, whatever M and W are."""
    rank_scope: Literal["all", "content"] = "all"
    """`content` leaves tokens behind the first end-of-text out of the ranking: they are decoded in
    bulk, are easy, and outnumber the others in short answers."""
    ties: Literal["strict", "entropy", "slot"] | None = None
    """Pairs of one step: left out, ordered by recorded entropy, or by position; null takes what
    parity says (repaired strict, release slot)."""
    short: Literal["full", "skip"] | None = None
    """Trajectories with fewer steps than M: learned in full from cut 0, or masked without loss;
    null takes what parity says (repaired full, release skip)."""
    inclusive_last: bool | None = None
    """Cuts may reach the last step; null takes what parity says (repaired true, release false)."""

    @model_validator(mode="after")
    def _rank_window_has_effect(self) -> TabomConfig:
        if (
            self.parity == "repaired"
            and self.window == "local"
            and self.rank_window > self.supervision_window
        ):
            raise ValueError(
                f"rank_window {self.rank_window} exceeds supervision_window "
                f"{self.supervision_window}, but only supervised tokens are ranked; set them equal"
            )
        return self


class TabomObjective(Objective):
    """Trajectory-aware masking with an entropy ranking loss (Eq. 9 of TABOM).

    The loss is `sum CE / tokens + rank_weight * sum_rows rank / rows with a pair`, where all entropies
    come from the forward pass that gives the cross-entropy. In the repaired form both counts span the
    global batch; in the release form they are those of the micro-batch, and micro-batches are averaged.

    Args:
        config: Settings of the objective.
    """

    Config = TabomConfig
    needs_order = True

    def __init__(self, config: TabomConfig) -> None:
        super().__init__()
        self.config = config
        release = config.parity == "release"
        self._ties: ranking.Ties = config.ties or ("slot" if release else "strict")
        self._short = config.short or ("skip" if release else "full")
        inclusive = config.inclusive_last
        self._inclusive_last = not release if inclusive is None else inclusive

    @property
    def weights(self) -> Mapping[str, float]:
        """Cross-entropy counts once, ranking `rank_weight` times."""
        return {"ce": 1.0, "rank": self.config.rank_weight}

    def prepare(
        self, batch: Batch, generators: Sequence[torch.Generator], mask_token_id: int
    ) -> PartialState:
        """Cut every trajectory at a random step; see `Objective.prepare`.

        Raises:
            DataError: `ties: entropy` and a tied pair without recorded entropies.
        """
        return self.state_at(batch, self.draw_cuts(batch, generators), mask_token_id)

    def cut_bounds(self, batch: Batch) -> Tensor:
        """(B,) int64: the largest cut per row, -1 for a row that is masked without loss."""
        maskable_BL = states.maskable_positions(batch, include_padding=self.config.include_padding)
        last_B = states.last_steps(batch, maskable_BL)
        if self.config.window == "global":
            return last_B
        upper_B = last_B - self.config.supervision_window + int(self._inclusive_last)
        if self._short == "full":
            upper_B = upper_B.clamp(min=0)
        return torch.where(last_B >= 0, upper_B, -1).clamp(min=-1)

    def draw_cuts(self, batch: Batch, generators: Sequence[torch.Generator]) -> states.Cuts:
        """One random cut per row from the row's own generator; rows without a bound draw nothing."""
        bounds = self.cut_bounds(batch).tolist()
        cuts = []
        for row, (upper, generator) in enumerate(zip(bounds, generators, strict=True)):
            non_ltr = self.config.cut_sampler == "non_ltr"
            candidates = states.non_ltr_steps(batch, row, upper) if non_ltr else []
            cuts.append(states.draw_cut(upper, candidates, generator) if upper >= 0 else -1)
        return self.windows_at(batch, torch.tensor(cuts))

    def windows_at(self, batch: Batch, cut_B: Tensor) -> states.Cuts:
        """The supervision window that belongs to each cut: M, or all steps when global."""
        if self.config.window == "global":
            maskable_BL = states.maskable_positions(
                batch, include_padding=self.config.include_padding
            )
            return states.Cuts(cut_B, states.last_steps(batch, maskable_BL) + 1)
        return states.Cuts(cut_B, torch.full_like(cut_B, self.config.supervision_window))

    def state_at(self, batch: Batch, cuts: states.Cuts, mask_token_id: int) -> PartialState:
        """The masked state, supervised tokens, allowed pairs and counts of given cuts."""
        maskable_BL = states.maskable_positions(batch, include_padding=self.config.include_padding)
        input_ids, supervised_BL = states.mask_from_cuts(
            batch, cuts, maskable_BL=maskable_BL, mask_token_id=mask_token_id
        )
        pairs_BKK = self._pairs(batch, cuts, supervised_BL)
        counts = {
            "ce": float(supervised_BL.sum()),
            "rank": float(pairs_BKK.flatten(1).any(dim=1).sum()),
        }
        return PartialState(
            input_ids=input_ids,
            attention_mask=batch.attention_mask,
            targets=batch.input_ids,
            supervised_mask=supervised_BL,
            counts=dict.fromkeys(counts, 1.0) if self.config.parity == "release" else counts,
            extras={"pairs": pairs_BKK, "num_tokens": supervised_BL.sum(dim=1)},
            sample_ids=batch.sample_ids,
        )

    def forward(
        self, state: PartialState, policy: Policy, reference: Policy | None = None
    ) -> LossTerms:
        """Sums of cross-entropy and of the rows' ranking losses; see `Objective.forward`."""
        logits_NV = scoring.supervised_logits(state, policy)
        targets_N = state.targets[state.supervised_mask]
        release = self.config.parity == "release"
        score = scoring.release_scores if release else scoring.exact_scores
        scores = score(logits_NV, targets_N, entropy_grad=self.config.rank_weight > 0)
        rank = ranking.ranking_sums(
            scores.entropy,
            state.extras["num_tokens"],
            state.extras["pairs"],
            self.config.rank_margin,
        )
        ce = scores.cross_entropy.sum()
        num_tokens, num_rows = _as(ce, state.extras["num_tokens"].sum()), _as(ce, rank.num_rows)
        num_pairs = _as(ce, rank.num_pairs)
        metrics = {
            "ce": (ce.detach(), num_tokens),
            "rank": (rank.loss.detach(), num_rows),
            "entropy": (scores.entropy.detach().sum(), num_tokens),
            "ranking_accuracy": (_as(ce, rank.num_ordered), num_pairs),
            "violated_pairs": (_as(ce, rank.num_violated), num_pairs),
            "supervised_tokens": (num_tokens, torch.full_like(num_tokens, len(state.input_ids))),
        }
        if release:
            sums = {"ce": ce / num_tokens.clamp(min=1), "rank": rank.loss / num_rows.clamp(min=1)}
        else:
            sums = {"ce": ce, "rank": rank.loss}
        return LossTerms(sums, metrics)

    def _pairs(self, batch: Batch, cuts: states.Cuts, supervised_BL: Tensor) -> Tensor:
        order_BL = batch.decoding_order
        ranked_BL = supervised_BL
        if self.config.window == "local":
            ranked_BL = ranked_BL & (order_BL < cuts.cut[:, None] + self.config.rank_window)
        if self.config.rank_scope == "content":
            # The pad id is the end-of-text id in both families: its first slot ends the answer.
            padding_BL = batch.padding_mask.long()
            ranked_BL = ranked_BL & (padding_BL.cumsum(dim=1) <= padding_BL)
        entropy_BK = ranking.pack(batch.decoding_entropy, supervised_BL, 0.0)
        step_BK = ranking.pack(order_BL, supervised_BL, -1)
        ranked_BK = ranking.pack(ranked_BL, supervised_BL, False)
        if self._ties == "entropy":
            _require_entropies(batch, ranked_BK, entropy_BK)
        return ranking.ordered_pairs(step_BK, ranked_BK, self._ties, entropy_BK)


Config = TabomConfig
OBJECTIVE = TabomObjective


def _require_entropies(batch: Batch, ranked_BK: Tensor, entropy_BK: Tensor) -> None:
    missing_B = (ranked_BK & entropy_BK.isnan()).any(dim=1)
    rows = [batch.sample_ids[row] for row in missing_B.nonzero()[:, 0].tolist()]
    if rows:
        raise DataError(
            f"objective.ties = 'entropy' needs decoding_entropy, which these rows lack: {', '.join(rows)}",
            hint="distill the rows with tabom, or use objective.ties=strict",
        )


def _as(like: Tensor, count: Tensor) -> Tensor:
    return count.detach().to(like.dtype)
