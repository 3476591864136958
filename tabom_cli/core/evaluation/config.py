"""The settings of evaluation. Imports no tensor library."""

from __future__ import annotations

from pydantic import Field

from tabom_cli.core.config import Section, StringTuple
from tabom_cli.core.decoding.config import DecodeConfig


class EvalConfig(Section):
    """Which tasks are scored, and how answers are decoded."""

    tasks: StringTuple = ()
    """Task names used when the command line names none."""
    num_fewshot: int = Field(0, ge=0)
    """Examples in the prompt."""
    limit: int | None = Field(None, ge=1)
    """Score only this many problems of each task."""
    max_prompt_length: int = Field(1024, ge=1)
    """Prompt budget in tokens; longer prompts keep their end, as in the release."""
    allow_code_execution: bool = False
    """Consent to run generated code, inside the sandbox only."""
    decode: DecodeConfig = Field(default_factory=DecodeConfig)
    """How answers are decoded."""
