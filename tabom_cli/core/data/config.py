"""The settings of training data and of prompts. Imports no tensor library."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from tabom_cli.core.config import Section, StringTuple

Task = Literal["countdown", "arithmetic", "functions"]
Split = Literal["train", "validation", "test"]


class GenerateConfig(Section):
    """Problems made by the generators of the embedded tasks."""

    tasks: StringTuple
    """Any of countdown, arithmetic, functions, dealt in turn; a name given twice gets twice the share."""
    num_problems: int = Field(ge=1)
    """Problems in all."""
    split: Split = "train"
    """Splits come from disjoint seeds and share no prompt."""
    seed: int = 0
    """Another seed gives other problems of the same split."""


class DataFile(Section):
    """One more trajectory file of a mixture."""

    path: str
    """JSONL or .jsonl.gz file; `asset:NAME` is a file that ships with the package."""
    weight: float = Field(1.0, gt=0, le=100)
    """How often an epoch sees each row: 2 repeats all rows, 0.5 takes a fixed half of them."""
    max_rows: int | None = Field(None, ge=1)
    """Use only this many rows, from the start of the file."""


def _file_of(value: Any) -> Any:
    """A bare path stands for a file with weight 1."""
    return {"path": value} if isinstance(value, str) else value


MoreFile = Annotated[DataFile, BeforeValidator(_file_of, json_schema_input_type=str | DataFile)]


class DataConfig(Section):
    """The trajectories that training reads."""

    path: str | None = None
    """JSONL or .jsonl.gz trajectory file, from the working directory; `asset:NAME` ships with tabom."""
    more: Annotated[tuple[MoreFile, ...], Strict(False)] = ()
    """More files to mix in: paths, or mappings with `path`, `weight` and `max_rows`."""
    weight: float = Field(1.0, gt=0, le=100)
    """How often an epoch sees each row of `path`; see `more`."""
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
    """Use only this many rows of `path`, from the start of the file."""

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if (self.path is None) == (self.generate is None):
            raise ValueError("exactly one of path and generate must be set")
        if self.path is None and (self.more or self.weight != 1.0):
            raise ValueError("more and weight need path: generated problems are not mixed")
        return self

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All trajectory files with their weights, `path` first; empty for generated problems."""
        if self.path is None:
            return ()
        return (DataFile(path=self.path, weight=self.weight, max_rows=self.max_rows), *self.more)


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
