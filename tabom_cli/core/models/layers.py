"""The parts that both native families are built from: norm, rotary tables, masks, attention.

Knows no checkpoint names and no family's order of operations; those are in `dream.py`, `llada.py`.

Shape letters: B batch, L sequence, D hidden width, H query heads, K key/value heads, E head width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from tabom_cli.core.errors import ModelError


class RMSNorm(nn.Module):
    """Root-mean-square norm: statistics in float32, cast back, then the weight in its own dtype."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise the last axis of (..., D), keeping its dtype."""
        wide = hidden.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(hidden.dtype)


class RotaryTable(nn.Module):
    """Cosines and sines of the half-split rotary embedding, in float32.

    The inverse frequencies are neither parameter nor buffer: a non-persistent buffer would hold
    uninitialised memory after `from_pretrained` from the meta device and would be rounded by
    `.to(bfloat16)`. They are made on first use, on the CPU, and kept per device.
    """

    def __init__(self, head_width: int, theta: float) -> None:
        super().__init__()
        self.head_width = head_width
        self.theta = theta
        self._frequencies: Tensor | None = None

    def frequencies(self, device: torch.device) -> Tensor:
        """theta^(-2i/E) for i < E/2, (E/2,) float32 on `device`."""
        if self._frequencies is None or self._frequencies.device != device:
            exponents = torch.arange(0, self.head_width, 2, dtype=torch.float32, device="cpu")
            self._frequencies = (1.0 / self.theta ** (exponents / self.head_width)).to(device)
        return self._frequencies

    @torch.no_grad()
    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Tables (B or 1, 1, L, E) float32 for positions (B or 1, L)."""
        angles = position_ids[:, None, :, None].float() * self.frequencies(position_ids.device)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the half-split rotation to (B, heads, L, E) in the promoted dtype of the arguments."""
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat((-second, first), dim=-1) * sin


def attendable(attention_mask: Tensor | None) -> Tensor | None:
    """What each query may read, from any of the accepted mask forms.

    A query that may read nothing (a row of padding only, or a padded query of a 4-D mask) is allowed
    to read everything instead: its output is meaningless either way, but stays finite on every back
    end, and no real position reads it.

    Args:
        attention_mask: None; (B, L) with non-zero for real tokens; (B, 1, L, L) bool or integer with
            non-zero where a query may read a key; or a float (B, 1, L, L) that is added to the scores.

    Returns:
        None when nothing is hidden, else bool (B, 1, 1 or L, L) or the finite float mask.

    Raises:
        ModelError: The mask has neither 2 nor 4 dimensions.
    """
    if attention_mask is None:
        return None
    if attention_mask.dim() not in (2, 4):
        raise ModelError(
            f"attention mask has shape {tuple(attention_mask.shape)}; allowed are (B, L) and (B, 1, L, L)"
        )
    if attention_mask.dim() == 4 and attention_mask.is_floating_point():
        return attention_mask.clamp(min=torch.finfo(attention_mask.dtype).min)
    mask = attention_mask != 0
    if mask.dim() == 2:
        mask = mask[:, None, None, :]
    if not torch.compiler.is_compiling() and bool(mask.all()):
        return None
    return mask | ~mask.any(dim=-1, keepdim=True)


def positions_from(attention_mask: Tensor | None, length: int, device: torch.device) -> Tensor:
    """Positions that count real tokens only: (1, L) without a 2-D mask, else clamp(cumsum - 1, 0)."""
    if attention_mask is None or attention_mask.dim() != 2:
        return torch.arange(length, device=device)[None]
    return ((attention_mask != 0).long().cumsum(-1) - 1).clamp(min=0)


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, eager: bool, dropout: float
) -> Tensor:
    """Bidirectional attention, softmax(q k^T / sqrt(E) + mask) v, with PyTorch's kernel or plainly.

    Args:
        query: (B, H, L, E).
        key: (B, K, L, E); query head h reads key head h // (H / K).
        value: (B, K, L, E).
        mask: What `attendable` returned.
        eager: Write the formula out (softmax in float32) instead of calling the fused kernel.
        dropout: Probability of dropping an attention weight; 0 outside training.

    Returns:
        (B, L, H * E) in the dtype of `value`.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    if mask is not None and mask.is_floating_point():
        mask = mask.to(query.dtype).clamp(min=torch.finfo(query.dtype).min)
    if eager:
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        elif mask is not None:
            scores = scores + mask
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
        mixed = functional.dropout(weights, p=dropout) @ value
    else:
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout
        )
    return mixed.transpose(1, 2).flatten(2)


class NativeModel(PreTrainedModel):
    """What the two families tell transformers in the same way."""

    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = False

    @classmethod
    def can_generate(cls) -> bool:
        """False: the sampler decodes; peft alone needs `prepare_inputs_for_generation`."""
        return False

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Any = None, **options: Any
    ) -> None:
        # Reentrant checkpointing drops the adapter's gradients when the embeddings are frozen.
        super()._set_gradient_checkpointing(
            enable, partial(checkpoint, use_reentrant=False), **options
        )

    @property
    def uses_eager_attention(self) -> bool:
        """Whether the plain formula was asked for."""
        return bool(self.config._attn_implementation == "eager")


def refuse_unsupported(family: str, faults: list[str]) -> None:
    """Raise one error for all options of a config that no published checkpoint uses.

    Args:
        family: Name shown to the user.
        faults: One `option = value (supported: ...)` text each; nothing happens when empty.

    Raises:
        ModelError: There is at least one fault.
    """
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        raise ModelError(
            f"config.json asks for options that the {family} network does not have:{lines}",
            hint="no published checkpoint of this family uses them; check where the folder comes from",
        )


def resolve_rope_theta(
    flat: float | None, parameters: dict[str, Any] | None, *, default: float
) -> float:
    """The rotary base from the flat key of the published configs or from transformers 5's mapping.

    Raises:
        ModelError: Both are given and differ.
    """
    nested = (parameters or {}).get("rope_theta")
    if flat is not None and nested is not None and flat != nested:
        raise ModelError(
            f"config.json gives two rotary bases: rope_theta = {flat}, rope_parameters.rope_theta = {nested}"
        )
    if flat is not None:
        return float(flat)
    return float(nested) if nested is not None else default


def enable_gradient_checkpointing(network: nn.Module) -> None:
    """Recompute every block in the backward pass; works on a native network and inside peft's wrapper.

    It takes effect in training mode only.

    Raises:
        ModelError: There is no native network inside.
    """
    natives = [module for module in network.modules() if isinstance(module, NativeModel)]
    if not natives:
        raise ModelError(f"{type(network).__name__} has no gradient checkpointing")
    for native in natives:
        native._set_gradient_checkpointing(True)
