"""NELBO fine-tuning: cross-entropy on randomly masked response tokens (SFT-GT and SFT-SD).

The two baselines share this objective; the data decides whose answers are learned. Does not look at
decoding orders, files or recipes.

Source: Eq. 1 of the TABOM paper; the release's `diffusion` and `fixed` schedules for
`parity: release`; LLaDA's guidelines for the 1/t weight.

Shape letters: B batch, L sequence, T response, N masked tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tabom_cli.core.config import Section
from tabom_cli.core.data.batch import Batch
from tabom_cli.core.models.base import Policy
from tabom_cli.core.objectives import scoring, states
from tabom_cli.core.objectives.base import LossTerms, Objective, PartialState


class NelboConfig(Section):
    """Settings of random masking."""

    parity: Literal["release", "repaired"] = "repaired"
    """`release` averages micro-batches and replaces non-finite logits; `repaired` counts globally."""
    masking: Literal["diffusion", "fixed"] = "diffusion"
    """`diffusion` draws a ratio t per row and masks each token with probability t; `fixed` masks a
    random subset of exactly `ratio`."""
    weight: Literal["none", "inv_t"] = "none"
    """`none` weighs all masked tokens alike; `inv_t` divides by t and by the answer's length, which
    makes the loss the likelihood bound."""
    t_min: float = Field(0.0, ge=0.0, le=1.0)
    """Smallest mask ratio of `diffusion`."""
    t_max: float = Field(1.0, gt=0.0, le=1.0)
    """Largest mask ratio of `diffusion`."""
    t_floor: float = Field(1e-3, gt=0.0, lt=1.0)
    """With `inv_t`, ratios below this are raised to it."""
    ratio: float | str | None = None
    """Mask ratio of `fixed`: a number, or "lo:hi" to draw one (per row; per micro-batch in `release`)."""
    include_padding: bool = True
    """Mask and learn the padding slots behind the answer too, so that its end is learned."""

    @model_validator(mode="after")
    def _settings_have_effect(self) -> NelboConfig:
        if self.t_min > self.t_max:
            raise ValueError(f"t_min {self.t_min} exceeds t_max {self.t_max}")
        if self.masking == "fixed":
            if self.ratio is None:
                raise ValueError("masking 'fixed' needs ratio, a number or 'lo:hi'")
            ratio_range(self.ratio)
            if (self.t_min, self.t_max) != (0.0, 1.0):
                raise ValueError("t_min and t_max are read by masking 'diffusion' only")
        elif self.ratio is not None:
            raise ValueError("ratio is read by masking 'fixed' only")
        return self


def ratio_range(ratio: float | str) -> tuple[float, float]:
    """Both ends of a mask ratio given as a number or as "lo:hi".

    Raises:
        ValueError: Not one or two numbers in (0, 1], or in the wrong order.
    """
    parts = str(ratio).split(":")
    try:
        ends = [float(part) for part in parts]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2) or not all(0.0 < end <= 1.0 for end in ends) or ends[0] > ends[-1]:
        raise ValueError(f"ratio '{ratio}' is not a number in (0, 1] or 'lo:hi' with lo <= hi")
    return ends[0], ends[-1]


@dataclass(frozen=True)
class RandomMask:
    """What was drawn for a batch, with the ratio that each row's draw stands for.

    Attributes:
        masked: (B, L) bool, positions to hide; all are supervised.
        ratio: (B,) float32, t of the `inv_t` weight.
    """

    masked: Tensor
    ratio: Tensor


class NelboObjective(Objective):
    """Cross-entropy of randomly masked tokens.

    With weight `none` the loss is the mean over all masked tokens; with `inv_t` it is the mean over
    rows of `(1 / |A|) sum CE / t`, A being the positions that may be masked. The repaired form counts
    over the global batch, the release form averages micro-batches.

    Args:
        config: Settings of the objective.
    """

    Config = NelboConfig

    def __init__(self, config: NelboConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def weights(self) -> Mapping[str, float]:
        """One term."""
        return {"ce": 1.0}

    def prepare(
        self, batch: Batch, generators: Sequence[torch.Generator], mask_token_id: int
    ) -> PartialState:
        """Mask a random part of every response; see `Objective.prepare`."""
        draw = self.draw_fixed if self.config.masking == "fixed" else self.draw_diffusion
        return self.state_at(batch, draw(batch, generators), mask_token_id)

    def draw_diffusion(self, batch: Batch, generators: Sequence[torch.Generator]) -> RandomMask:
        """One ratio per row and one number per response position, from the row's own generator."""
        length = int(batch.response_mask[0].sum())
        draws = [states.draw_uniforms(1 + length, generator) for generator in generators]
        uniforms = torch.stack(draws)
        return self.diffusion_mask(batch, uniforms[:, 0], uniforms[:, 1:])

    def diffusion_mask(self, batch: Batch, ratio_draw_B: Tensor, uniforms_BT: Tensor) -> RandomMask:
        """The mask that given uniform numbers make.

        Args:
            batch: Clean rows.
            ratio_draw_B: Numbers in [0, 1), scaled to [t_min, t_max).
            uniforms_BT: Numbers in [0, 1) per response position; those below the ratio are masked.
        """
        ratio_B = self.config.t_min + (self.config.t_max - self.config.t_min) * ratio_draw_B
        if self.config.weight == "inv_t":
            ratio_B = ratio_B.clamp(min=self.config.t_floor)
        masked_BL = states.mask_below_ratio(
            self._maskable(batch), batch.response_mask, ratio_B, uniforms_BT
        )
        return RandomMask(masked_BL, ratio_B)

    def draw_fixed(self, batch: Batch, generators: Sequence[torch.Generator]) -> RandomMask:
        """One permutation per row, and one ratio when it is a range."""
        ratios = self._draw_ratios(generators)
        sizes = self._maskable(batch).sum(dim=1).tolist()
        permutations = [
            torch.randperm(size, generator=generator)
            for size, generator in zip(sizes, generators, strict=True)
        ]
        return self.fixed_mask(batch, ratios, permutations)

    def fixed_mask(
        self, batch: Batch, ratio_B: Sequence[float], permutations: Sequence[Tensor]
    ) -> RandomMask:
        """The mask that given ratios and permutations make; its ratio is the share really masked."""
        maskable_BL = self._maskable(batch)
        masked_BL = states.mask_subsets(maskable_BL, ratio_B, permutations)
        share_B = masked_BL.sum(dim=1) / maskable_BL.sum(dim=1).clamp(min=1)
        return RandomMask(masked_BL, share_B)

    def state_at(self, batch: Batch, draw: RandomMask, mask_token_id: int) -> PartialState:
        """The masked state, token weights and counts of a given draw."""
        num_maskable_B = self._maskable(batch).sum(dim=1)
        if self.config.weight == "inv_t":
            weight_B = 1.0 / (draw.ratio * num_maskable_B).clamp(min=self.config.t_floor)
            count = float((num_maskable_B > 0).sum())
        else:
            weight_B = torch.ones_like(draw.ratio)
            count = float(draw.masked.sum())
        return PartialState(
            input_ids=batch.input_ids.masked_fill(draw.masked, mask_token_id),
            attention_mask=batch.attention_mask,
            targets=batch.input_ids,
            supervised_mask=draw.masked,
            counts={"ce": 1.0 if self.config.parity == "release" else count},
            extras={
                "weight": weight_B,
                "num_tokens": draw.masked.sum(dim=1),
                "num_maskable": num_maskable_B,
            },
            sample_ids=batch.sample_ids,
        )

    def forward(
        self, state: PartialState, policy: Policy, reference: Policy | None = None
    ) -> LossTerms:
        """The weighted sum of cross-entropies; see `Objective.forward`."""
        logits_NV = scoring.supervised_logits(state, policy)
        targets_N = state.targets[state.supervised_mask]
        release = self.config.parity == "release"
        score = scoring.release_scores if release else scoring.exact_scores
        scores = score(logits_NV, targets_N, entropy_grad=False)
        weight_BL = state.extras["weight"][:, None].expand_as(state.supervised_mask)
        weight_N = weight_BL[state.supervised_mask].to(scores.cross_entropy.dtype)
        ce = (weight_N * scores.cross_entropy).sum()
        unweighted = scores.cross_entropy.detach().sum()
        num_tokens = state.extras["num_tokens"].sum().to(ce.dtype)
        num_maskable = state.extras["num_maskable"].sum().to(ce.dtype)
        metrics = {
            "ce": (unweighted, num_tokens),
            "entropy": (scores.entropy.sum(), num_tokens),
            "mask_ratio": (num_tokens, num_maskable),
            "supervised_tokens": (num_tokens, torch.full_like(num_tokens, len(state.input_ids))),
        }
        if release:
            num_rows = (state.extras["num_maskable"] > 0).sum()
            size = num_rows if self.config.weight == "inv_t" else num_tokens
            ce = ce / size.clamp(min=1)
        return LossTerms({"ce": ce}, metrics)

    def _maskable(self, batch: Batch) -> Tensor:
        return states.maskable_positions(batch, include_padding=self.config.include_padding)

    def _draw_ratios(self, generators: Sequence[torch.Generator]) -> list[float]:
        low, high = ratio_range(self.config.ratio if self.config.ratio is not None else 1.0)
        if low == high:
            return [low] * len(generators)
        if self.config.parity == "release":
            drawn = float(states.draw_uniforms(1, generators[0]))
            return [low + (high - low) * drawn] * len(generators)
        return [
            low + (high - low) * float(states.draw_uniforms(1, generator))
            for generator in generators
        ]


Config = NelboConfig
OBJECTIVE = NelboObjective
