"""The settings of distillation. Imports no tensor library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tabom_cli.core.config import Section
from tabom_cli.core.data.config import PromptsConfig
from tabom_cli.core.decoding.config import DecodeConfig


class DistillConfig(Section):
    """Which prompts the model answers, how often, and how answers are judged."""

    prompts: PromptsConfig
    """The prompts."""
    num_samples: int = Field(1, ge=1)
    """Answers per prompt; rows of one prompt share a `group_id`."""
    verifier: Literal["none", "math", "code", "countdown", "arithmetic", "functions", "tasks"] = (
        "none"
    )
    """Answer check; `tasks` picks the check of each generated problem."""
    max_prompt_length: int = Field(256, ge=1)
    """Prompt budget in tokens, template included."""
    output: str | None = None
    """JSONL file that is written; null uses `data.path`."""
    decode: DecodeConfig = Field(default_factory=DecodeConfig)
    """How answers are decoded."""

    @model_validator(mode="after")
    def _judgeable(self) -> DistillConfig:
        if self.verifier == "none" or self.prompts.generate is not None:
            return self
        if self.verifier == "tasks":
            raise ValueError(
                "verifier 'tasks' needs prompts.generate: it checks generated problems"
            )
        if self.prompts.reference_column is None:
            raise ValueError(f"verifier '{self.verifier}' needs prompts.reference_column")
        return self

    @property
    def need_references(self) -> bool:
        """Whether a prompt without a reference cannot be used."""
        return self.verifier != "none"
