"""The settings of evaluation. Imports no tensor library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tabom_cli.core.config import Section, StringTuple
from tabom_cli.core.decoding.config import DecodeConfig


class EvalConfig(Section):
    """Which tasks are scored, and how answers are decoded."""

    tasks: StringTuple = ()
    """Task names used when the command line names none."""
    profile: Literal["release", "paper", "none"] | None = None
    """Preset of decode settings per family and task; null takes `release` where it has the task and
    `decode` below elsewhere, `none` always takes `decode`."""
    num_fewshot: int = Field(0, ge=0)
    """Examples in the prompt."""
    num_samples: int = Field(1, ge=1)
    """Answers per problem, for pass@k and majority votes; more than one needs a temperature."""
    limit: int | None = Field(None, ge=1)
    """Score only this many problems of each task."""
    max_prompt_length: int = Field(1024, ge=1)
    """Prompt budget in tokens; longer prompts keep their end, as in the release."""
    answer_end: Literal["turn", "eos"] = "turn"
    """Where the answer ends: at the first end token of the family, or, as in the release, only at
    the tokenizer's eos (end-of-turn marks then stay in the text)."""
    data_dir: str | None = None
    """Folder with the benchmarks as JSONL, so that nothing is loaded from the network."""
    allow_code_execution: bool = False
    """Consent to run generated code, inside the sandbox only."""
    decode: DecodeConfig = Field(default_factory=lambda: DecodeConfig.model_validate({}))
    """How tasks without a preset are decoded, and what `tabom generate` and `tabom tds` use; its
    batch_size holds for presets too."""
