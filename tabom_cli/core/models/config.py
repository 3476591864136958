"""The settings of the model and its adapter. Imports neither torch nor transformers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tabom_cli.core.config import Section, StringTuple


class ModelConfig(Section):
    """Which base model, in which form."""

    path: str
    """Local folder, Hub name, or `tiny` for the model that ships with tabom."""
    revision: str | None = None
    """Hub commit or tag; null takes the newest and the manifest records which."""
    adapter: str | None = None
    """LoRA adapter folder to start from; null starts from the base."""
    init: Literal["pretrained", "random"] = "pretrained"
    """`random` builds the architecture from the config with fresh weights."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Type of the base weights in memory."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Attention back end: PyTorch's fused kernels, or the plain formula."""


class LoraConfig(Section):
    """The low-rank adapter that is trained."""

    rank: int = Field(16, ge=1)
    """Rank r of both factors."""
    alpha: int = Field(16, ge=1)
    """Scale numerator; the update is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout on the adapter input."""
    target_modules: StringTuple = ("q_proj", "v_proj")
    """Names of the linear layers that get an adapter."""
