"""The settings of training data and of prompts. Imports no tensor library."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from tabom_cli.core.config import Section, StringTuple
from tabom_cli.core.data.prompt_presets import PLACES, with_preset

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
    """Keep rows whose `verdict` is one of these, and rows that have none (the published files were
    filtered before); null keeps all."""
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

    preset: str | None = None
    """Public data set whose columns and sampling fill the keys below that are left out:
    mixchain_z_prm12k, ling_coder_sft, gsm8k_train, mbpp_train."""
    path: str | None = None
    """File of prompts (JSONL, .jsonl.gz or parquet), folder of such files, or folder that `datasets`
    saved to disk."""
    hub: str | None = None
    """Dataset on the Hugging Face Hub, when the network allows."""
    data_file: str | None = None
    """File inside `data_dir`."""
    generate: GenerateConfig | None = None
    """Problems of the embedded tasks instead of a file."""
    data_dir: str | None = None
    """Folder with the benchmarks as JSONL, for `data_file` and for the contamination check."""
    split: str = "train"
    """Split of a Hub dataset or of a folder that holds several."""
    revision: str | None = None
    """Revision of a Hub dataset; null takes the newest."""
    prompt_column: str = "prompt"
    """Column that holds the user text, or a list of turns whose first user turn is taken."""
    template: str | None = None
    """User text with `{column}` in place of values, when one column is not enough."""
    reference_column: str | None = "reference"
    """Column that holds the reference answer or tests; null for label-free prompts."""
    setup_column: str | None = None
    """Column with code that runs before a list of tests."""
    source_column: str | None = None
    """Column that names the data source; null uses the file name."""
    id_column: str | None = None
    """Column with a number, for `id_range`."""
    id_range: Annotated[tuple[int, int], Strict(False)] | None = None
    """Use only rows whose `id_column` lies in this range, ends included."""
    source: str | None = None
    """Where the published prompts come from, in words; shown when `path` is missing."""
    on_bad_prompt: Literal["error", "drop"] = "drop"
    """A prompt that is empty, no text or too long, or whose reference the answer check cannot use: stop,
    or leave it out and count it."""
    contaminated: Literal["drop", "keep"] = "drop"
    """Prompts found in an evaluation set of `data_dir`: leave out, or only count."""
    contamination_ngram: int = Field(13, ge=5)
    """Words in a row that prompt and evaluation question must share to count as the same."""
    sample: int | None = Field(None, ge=1)
    """Draw this many prompts; the draw depends on `sample_seed` and the prompts alone."""
    sample_seed: int = 42
    """Seed of the draw."""
    limit: int | None = Field(None, ge=1)
    """Use only this many prompts, from the start, after everything else."""

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        return with_preset(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _one_source(self) -> PromptsConfig:
        if sum(getattr(self, key) is not None for key in PLACES) != 1:
            raise ValueError("exactly one of path, hub, data_file and generate must be set")
        if self.id_range is not None and self.id_column is None:
            raise ValueError("id_range needs id_column")
        return self
