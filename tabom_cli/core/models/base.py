"""What decoding and losses need from a loaded diffusion language model.

Knows the alignment (position i of the hidden states predicts token i) and the special ids; does not
know how answers are decoded or which loss is computed.

Shape letters: B batch, L sequence, D hidden width, V logits width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn


class Policy(Protocol):
    """The two calls that losses and the sampler make; `DiffusionLM` and toy models in tests have them."""

    @property
    def mask_token_id(self) -> int:
        """Id of the mask token."""
        ...

    @property
    def eos_token_id(self) -> int:
        """Id that ends a text."""
        ...

    @property
    def pad_token_id(self) -> int:
        """Id that fills a response behind its end."""
        ...

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Hidden states (B, L, D) of which position i predicts token i."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of any selection of hidden states (..., D)."""
        ...


@dataclass(frozen=True)
class SpecialIds:
    """Token ids with a meaning for decoding.

    Attributes:
        mask: Stands for a position that is not decided yet.
        eos: Ends a text.
        pad: Fills a response behind its end; equals `eos` in both published families.
        end: All ids that end an answer: eos and the end-of-turn id.
    """

    mask: int
    eos: int
    pad: int
    end: frozenset[int]


@dataclass(frozen=True, eq=False)
class DiffusionLM:
    """A loaded network with its family's alignment, tokenizer and special ids.

    Attributes:
        family: Plugin name of the family (`dream`, `llada`).
        network: The native module, possibly wrapped by peft.
        tokenizer: The transformers tokenizer, left padding.
        ids: Special ids, checked against the tokenizer at load.
        name: Hub name or folder that was loaded, with the resolved revision for manifests.
        revision: Hub commit, None for folders.
        adapter: Adapter folder, None without one.
    """

    family: str
    network: nn.Module
    tokenizer: Any
    ids: SpecialIds
    name: str
    revision: str | None = None
    adapter: str | None = None

    @property
    def mask_token_id(self) -> int:
        """Id of the mask token."""
        return self.ids.mask

    @property
    def eos_token_id(self) -> int:
        """Id that ends a text."""
        return self.ids.eos

    @property
    def pad_token_id(self) -> int:
        """Id that fills a response behind its end."""
        return self.ids.pad

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.network.parameters()).device

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Final hidden states, aligned so that position i predicts token i.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L) bool, True for real tokens; None when nothing is padding.

        Returns:
            (B, L, D) in the network's dtype.
        """
        return cast("Tensor", cast("Any", self.network).hidden(input_ids, attention_mask))

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of selected hidden states: (..., D) to (..., V), in the network's dtype."""
        return cast("Tensor", cast("Any", self.network).logits(hidden))

    @contextmanager
    def adapter_disabled(self) -> Iterator[None]:
        """Run the base model without its adapter, for a frozen reference."""
        disable = getattr(self.network, "disable_adapter", None)
        if disable is None:
            yield
        else:
            with disable():
                yield
