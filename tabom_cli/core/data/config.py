"""The settings of training data and of prompts. Imports no tensor library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tabom_cli.core.config import Section, StringTuple

Task = Literal["countdown", "arithmetic", "functions"]
Split = Literal["train", "validation", "test"]


class GenerateConfig(Section):
    """Problems made by the generators of the embedded tasks."""

    tasks: StringTuple
    """Any of countdown, arithmetic, functions; problems are dealt evenly over them."""
    num_problems: int = Field(ge=1)
    """Problems in all."""
    split: Split = "train"
    """Splits come from disjoint seeds and share no prompt."""
    seed: int = 0
    """Another seed gives other problems of the same split."""


class DataConfig(Section):
    """The trajectories that training reads."""

    path: str | None = None
    """JSONL trajectory file; relative paths count from the working directory."""
    generate: GenerateConfig | None = None
    """Train on reference answers of generated problems instead of a file."""
    source: str | None = None
    """Where the published file comes from, in words; shown when `path` is missing."""
    method_filter: Literal["all", "default", "entropy"] | None = None
    """Keep rows by decoder; null means `entropy` for tabom, else `all` (as in the release)."""
    verdicts: StringTuple | None = None
    """Keep rows whose `verdict` is one of these; null keeps all."""
    on_missing_order: Literal["error", "ltr", "drop"] = "error"
    """A row without a full `decoding_order`: stop, use left-to-right, or drop it and count it."""
    use_token_ids: bool = True
    """Train on `response_token_ids`; false tokenises the text (SFT on dataset answers)."""
    max_prompt_length: int = Field(256, ge=1)
    """Prompt budget in tokens, template included; longer user text keeps its beginning."""
    response_length: int = Field(256, ge=1)
    """Response length T in tokens; shorter responses are padded, longer ones cut."""
    max_rows: int | None = Field(None, ge=1)
    """Use only this many rows, from the start of the file."""

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if (self.path is None) == (self.generate is None):
            raise ValueError("exactly one of path and generate must be set")
        return self


class PromptsConfig(Section):
    """The prompts that distillation answers."""

    path: str | None = None
    """JSONL file of prompts."""
    generate: GenerateConfig | None = None
    """Problems of the embedded tasks instead of a file."""
    prompt_column: str = "prompt"
    """Column that holds the user text."""
    reference_column: str | None = "reference"
    """Column that holds the reference answer or tests; null for label-free prompts."""
    source_column: str | None = None
    """Column that names the data source; null uses the file name."""
    source: str | None = None
    """Where the published prompts come from, in words; shown when `path` is missing."""
    limit: int | None = Field(None, ge=1)
    """Use only this many prompts."""

    @model_validator(mode="after")
    def _one_source(self) -> PromptsConfig:
        if (self.path is None) == (self.generate is None):
            raise ValueError("exactly one of path and generate must be set")
        return self
