"""The prompts that distillation answers: from a JSONL file, or problems of the embedded tasks.

Knows columns, stable ids and duplicates; no tokenizer and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabom_cli.assets import tasks
from tabom_cli.core import plugins
from tabom_cli.core.data.config import PromptsConfig
from tabom_cli.core.data.lines import Faults, kind_of, read_objects
from tabom_cli.core.data.records import stable_hash
from tabom_cli.core.errors import DataError

MAX_CHARACTERS = 100_000


@dataclass(frozen=True)
class Prompt:
    """One question to answer.

    Attributes:
        id: Stable: a hash of source, index and text, or the id of a generated problem.
        text: The user's turn.
        reference: What the answer check needs, None for label-free prompts.
        source: Where the prompt comes from.
        task: Embedded task, None for prompts from a file.
        line: Line of the file from 1, None for generated problems.
    """

    id: str
    text: str
    reference: str | None
    source: str
    task: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class PromptReport:
    """What was read.

    Attributes:
        num_read: Prompts in the file or generated.
        num_duplicates: Prompts left out because the same text came before.
        num_without_reference: Prompts handed out without a reference.
        num_prompts: Prompts handed out.
    """

    num_read: int
    num_duplicates: int
    num_without_reference: int
    num_prompts: int


def read_prompts(config: PromptsConfig) -> list[Prompt]:
    """The prompts of a section, in file order, no text twice; `load_prompts` without its report."""
    return load_prompts(config)[0]


def load_prompts(config: PromptsConfig) -> tuple[list[Prompt], PromptReport]:
    """The prompts of a section, in file order, no text twice, and what was left out.

    Raises:
        DataError: The file is missing, empty or damaged, or prompts are empty, no text, or longer
            than 100,000 characters; up to ten faults are shown, each with file and line.
    """
    found = _from_file(config) if config.path is not None else _from_tasks(config)
    seen: set[str] = set()
    kept: list[Prompt] = []
    for prompt in found:
        text = " ".join(prompt.text.split())
        if text not in seen:
            seen.add(text)
            kept.append(prompt)
    num_duplicates = len(found) - len(kept)
    kept = kept[: config.limit]
    return kept, PromptReport(
        num_read=len(found),
        num_duplicates=num_duplicates,
        num_without_reference=sum(prompt.reference is None for prompt in kept),
        num_prompts=len(kept),
    )


def _from_tasks(config: PromptsConfig) -> list[Prompt]:
    assert config.generate is not None
    made = tasks.problems(
        config.generate.tasks,
        split=config.generate.split,
        num_problems=config.generate.num_problems,
        seed=config.generate.seed,
    )
    return [Prompt(p.id, p.prompt, p.reference, f"{p.task}/{p.split}", p.task) for p in made]


def _from_file(config: PromptsConfig) -> list[Prompt]:
    path = Path(str(config.path))
    if not path.is_file():
        came = f"the prompts come from {config.source}; " if config.source else ""
        raise DataError(
            f"{path}: no such prompt file", hint=f"{came}distill.prompts.path names the file"
        )
    faults, found = Faults(path), []
    for index, (line, row) in enumerate(read_objects(path, faults)):
        text = _text_of(row, config.prompt_column, line, faults)
        if text is not None:
            reference = _reference_of(row, config.reference_column, line, faults)
            source = row.get(config.source_column) if config.source_column else None
            name = str(source) if source is not None else path.name
            identity = stable_hash(name, index, text)
            found.append(Prompt(identity, text, reference, name, None, line))
    faults.raise_if_any("distill.prompts.prompt_column and reference_column name the columns")
    if not found:
        raise DataError(f"{path}: the file is empty")
    return found


def _text_of(row: dict[str, Any], column: str, line: int, faults: Faults) -> str | None:
    if column not in row:
        near = plugins.nearest(column, list(row))
        known = ", ".join(row) or "none"
        faults.add(
            line,
            f"no column '{column}' (columns: {known})"
            + (f": did you mean '{near}'?" if near else ""),
        )
        return None
    text = row[column]
    if not isinstance(text, str):
        faults.add(line, f"'{column}' is {kind_of(text)}, not text")
    elif not text.strip():
        faults.add(line, f"'{column}' is empty")
    elif len(text) > MAX_CHARACTERS:
        faults.add(line, f"'{column}' has {len(text)} characters: at most {MAX_CHARACTERS}")
    else:
        return text
    return None


def _reference_of(row: dict[str, Any], column: str | None, line: int, faults: Faults) -> str | None:
    value = row.get(column) if column else None
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value) or None
    faults.add(line, f"'{column}' is {kind_of(value)}: a text, a number or a list of tests")
    return None
