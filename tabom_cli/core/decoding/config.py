"""The settings of a decode. Knows no model and no tensor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tabom_cli.core.config import Section


class DecodeConfig(Section):
    """How masked positions are filled: which first, how many at a time, with which token."""

    strategy: str = "entropy"
    """Rule that ranks masked positions: a file name under core/decoding/strategies."""
    options: dict[str, float | int | bool | None] = Field(default_factory=dict)
    """Settings that only the chosen strategy knows (its `Options`)."""
    steps: int = Field(256, ge=1)
    """Denoising steps planned for the whole response; a threshold may need fewer."""
    max_new_tokens: int = Field(256, ge=1)
    """Response length T in tokens: the number of masks appended to the prompt."""
    block_length: int | None = Field(None, ge=1)
    """Semi-autoregressive block in tokens (LLaDA); null decodes the response as one block."""
    schedule: Literal["time", "even"] = "time"
    """Tokens per step: `time` is Dream's floor(m * (1 - s/t)), `even` is LLaDA's equal split."""
    tokens_per_step: int | None = Field(None, ge=1)
    """Reveal exactly this many tokens per step; takes precedence over threshold and schedule."""
    threshold: float | None = Field(None, gt=0.0, le=1.0)
    """Reveal every position whose raw top-1 probability reaches this, at least one per step."""
    temperature: float = Field(0.0, ge=0.0)
    """Sampling temperature of the token proposal; 0 is greedy."""
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    """Keep the smallest set of tokens whose probability exceeds this."""
    top_k: int | None = Field(None, ge=1)
    """Keep the k most probable tokens."""
    alg_temp: float | None = Field(None, gt=0.0)
    """Temperature for drawing positions by certainty; null takes the most certain ones."""
    confidence_temperature: float | None = Field(None, gt=0.0)
    """Temperature of the distribution that ranks positions; null ranks on the tempered and filtered
    proposal distribution as the release does, 1.0 on the raw one."""
    token_pick: Literal["sample", "argmax"] = "argmax"
    """Draw the token from the proposal distribution, or take its most probable one."""
    eos_suppression: Literal["none", "logits", "confidence"] = "none"
    """`logits` forbids the end-of-text token, `confidence` reveals end tokens last."""
    stop_behind_eos: bool = False
    """Stop a row when all its masked positions lie behind a decided end token, and fill them with the
    pad id, step -1. It saves forwards and changes what later positions would have seen."""
    eps: float = Field(1e-3, gt=0.0, lt=1.0)
    """Smallest time of the `time` schedule."""
    batch_size: int = Field(16, ge=1)
    """Rows decoded together; results do not depend on it."""

    @model_validator(mode="after")
    def _check(self) -> DecodeConfig:
        if self.block_length is not None:
            if self.max_new_tokens % self.block_length:
                raise ValueError(
                    f"block_length {self.block_length} does not divide "
                    f"max_new_tokens {self.max_new_tokens}"
                )
            blocks = self.max_new_tokens // self.block_length
            if self.steps < blocks:
                raise ValueError(f"steps {self.steps} is less than one for each of {blocks} blocks")
            if self.schedule == "even" and self.steps % blocks:
                raise ValueError(f"steps {self.steps} is not a multiple of the {blocks} blocks")
        if self.tokens_per_step is not None and self.threshold is not None:
            raise ValueError("tokens_per_step and threshold exclude each other; set one to null")
        if self.alg_temp is not None and self.threshold is not None:
            raise ValueError("alg_temp has no effect with threshold; set one to null")
        return self
