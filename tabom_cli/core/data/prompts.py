"""The prompts that distillation answers: from files, the Hub, or problems of the embedded tasks.

Knows columns, stable ids, duplicates, contamination and sampling; no tokenizer and no model. Reads its
source once, row by row, and keeps only what is handed out.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tabom_cli.assets import tasks
from tabom_cli.core.data.config import PromptsConfig
from tabom_cli.core.data.contamination import EvaluationQuestions
from tabom_cli.core.data.lines import Faults
from tabom_cli.core.data.prompt_columns import (
    MAX_CHARACTERS,
    in_range,
    is_unicode,
    reference_of,
    text_of,
)
from tabom_cli.core.data.records import stable_hash
from tabom_cli.core.data.sources import read_source, source_name, source_place
from tabom_cli.core.errors import DataError

__all__ = [
    "MAX_CHARACTERS",
    "Prompt",
    "PromptReport",
    "load_prompts",
    "read_prompt_file",
    "read_prompts",
]


@dataclass(frozen=True)
class Prompt:
    """One question to answer.

    Attributes:
        id: Stable: a hash of source, index and text, or the id of a generated problem.
        text: The user's turn.
        reference: What the answer check needs, None for label-free prompts.
        source: Where the prompt comes from.
        task: Embedded task, None for prompts from a file.
        line: Line or row of the source from 1, None for generated problems.
    """

    id: str
    text: str
    reference: str | None
    source: str
    task: str | None = None
    line: int | None = None


_Found = tuple[Prompt, str]
"""A prompt and the question in it that evaluation sets are compared with."""


@dataclass(frozen=True)
class PromptReport:
    """What was read.

    Attributes:
        num_read: Prompts in the source or generated, bad ones included.
        num_duplicates: Prompts left out because the same text came before.
        num_without_reference: Prompts handed out without a reference.
        num_prompts: Prompts handed out.
        num_bad: Prompts left out because they or their references cannot be used.
        bad: Those by reason.
        bad_summary: Those by reason with their first lines, in words.
        checked: Evaluation sets that prompts were compared with, and their sizes; empty without a
            `data_dir`.
        contaminated: Prompts found in an evaluation set, by `<benchmark> (exact)` or `(n-gram)`.
        contaminated_left_out: Whether those were left out.
        num_sampled_out: Good prompts that the draw left out.
    """

    num_read: int
    num_duplicates: int
    num_without_reference: int
    num_prompts: int
    num_bad: int = 0
    bad: Mapping[str, int] = field(default_factory=dict)
    bad_summary: str = ""
    checked: Mapping[str, int] = field(default_factory=dict)
    contaminated: Mapping[str, int] = field(default_factory=dict)
    contaminated_left_out: bool = True
    num_sampled_out: int = 0

    def warnings(self) -> list[str]:
        """What a reader should know; empty when nothing stands out."""
        found = []
        if self.num_bad:
            found.append(f"{self.num_bad} prompts left out: {self.bad_summary}")
        if self.contaminated:
            counts = ", ".join(f"{count} {name}" for name, count in self.contaminated.items())
            what = "left out" if self.contaminated_left_out else "KEPT"
            found.append(f"prompts that repeat evaluation questions are {what}: {counts}")
        return found


def read_prompts(config: PromptsConfig) -> list[Prompt]:
    """The prompts of a section, in file order, no text twice, for callers that show no report.

    Raises:
        DataError: As `load_prompts`, and for every bad prompt, because nobody would count it.
    """
    return load_prompts(config.model_copy(update={"on_bad_prompt": "error"}))[0]


def read_prompt_file(path: Path) -> list[Prompt]:
    """Every prompt of a file or folder, repeats included, in its order: one answer per row.

    Raises:
        DataError: No such file, nothing in it, or rows that hold no prompt; each with its line.
    """
    hint = 'each line is an object such as {"prompt": "What is 12 + 30?"}'
    if not path.exists():
        raise DataError(f"{path}: no such prompt file", hint=hint)
    faults = Faults(path)
    config = PromptsConfig(path=str(path))
    found = list(_from_source(config, faults, Counter(), need_references=False))
    faults.raise_if_any(hint)
    if not found:
        raise DataError(f"{path}: the file is empty", hint=hint)
    return [prompt for prompt, _ in found]


def load_prompts(
    config: PromptsConfig, *, need_references: bool = False
) -> tuple[list[Prompt], PromptReport]:
    """The prompts of a section, in file order, no text twice, and what was left out.

    Duplicates go first, then prompts of evaluation sets, then the draw (`sample`), then `limit`. The
    draw takes the prompts with the smallest hash of seed and text, so that it does not depend on the
    order of the rows or on the machine.

    Args:
        config: The prompt section.
        need_references: Whether a prompt without a reference cannot be used.

    Raises:
        DataError: The source is missing, empty, damaged or out of reach; no prompt can be used; or,
            with `on_bad_prompt: error`, one cannot: empty, no text, longer than 100,000 characters,
            or a faulty reference. Up to ten faults are shown, each with its line.
    """
    counts: Counter[str] = Counter()
    contaminated: Counter[str] = Counter()
    generated = config.generate is not None
    faults = Faults("generated" if generated else source_place(config))
    known = None
    if config.data_dir is not None and not generated:
        known = EvaluationQuestions(Path(config.data_dir), ngram=config.contamination_ngram)
    found = (
        _from_tasks(config, counts)
        if generated
        else _from_source(config, faults, counts, need_references=need_references)
    )
    good = _good(config, found, known, counts, contaminated)
    kept = _draw(good, config.sample, config.sample_seed)
    if config.on_bad_prompt == "error":
        faults.raise_if_any("distill.prompts.prompt_column and reference_column name the columns")
    if not kept:
        _refuse_nothing(faults, counts)
    num_sampled_out = counts["good"] - len(kept)
    kept = kept[: config.limit]
    return kept, PromptReport(
        num_read=counts["read"],
        num_duplicates=counts["duplicate"],
        num_without_reference=sum(prompt.reference is None for prompt in kept),
        num_prompts=len(kept),
        num_bad=faults.count,
        bad=dict(faults.reasons),
        bad_summary=faults.summary(),
        checked={} if known is None else known.benchmarks,
        contaminated=dict(contaminated),
        contaminated_left_out=config.contaminated == "drop",
        num_sampled_out=num_sampled_out,
    )


def _from_tasks(config: PromptsConfig, counts: Counter[str]) -> Iterator[_Found]:
    assert config.generate is not None
    made = tasks.problems(
        config.generate.tasks,
        split=config.generate.split,
        num_problems=config.generate.num_problems,
        seed=config.generate.seed,
    )
    counts["read"] = len(made)
    for problem in made:
        source = f"{problem.task}/{problem.split}"
        made_prompt = Prompt(problem.id, problem.prompt, problem.reference, source, problem.task)
        yield made_prompt, problem.prompt


def _from_source(
    config: PromptsConfig, faults: Faults, counts: Counter[str], *, need_references: bool
) -> Iterator[_Found]:
    own_name = source_name(config)
    for index, (line, row) in enumerate(read_source(config, faults)):
        if not in_range(row, config):
            continue
        counts["read"] += 1
        text = text_of(row, config, line, faults)
        if text is None:
            continue
        num_before = faults.count
        reference = reference_of(row, config, line, faults)
        if reference is None and need_references and faults.count == num_before:
            faults.add(line, f"no reference in column '{config.reference_column}'")
        if faults.count > num_before:
            continue
        source = row.get(config.source_column) if config.source_column else None
        name = str(source) if source is not None and is_unicode(str(source)) else own_name
        # A template adds tests or instructions; evaluation sets are compared with the bare question.
        bare = row.get(config.prompt_column) if config.template else text
        prompt = Prompt(stable_hash(name, index, text), text, reference, name, None, line)
        yield prompt, bare if isinstance(bare, str) and is_unicode(bare) else text


def _good(
    config: PromptsConfig,
    found: Iterator[_Found],
    known: EvaluationQuestions | None,
    counts: Counter[str],
    contaminated: Counter[str],
) -> Iterator[Prompt]:
    seen: set[bytes] = set()
    for prompt, question in found:
        digest = _digest("text", " ".join(prompt.text.split()))
        if digest in seen:
            counts["duplicate"] += 1
            continue
        seen.add(digest)
        match = known.find(question) if known else None
        if match is not None:
            contaminated[f"{match.benchmark} ({match.kind})"] += 1
            if config.contaminated == "drop":
                continue
        counts["good"] += 1
        yield prompt


def _draw(prompts: Iterator[Prompt], sample: int | None, seed: int) -> list[Prompt]:
    if sample is None:
        return list(prompts)
    numbered = (
        (_digest(str(seed), " ".join(prompt.text.split())), index, prompt)
        for index, prompt in enumerate(prompts)
    )
    drawn = heapq.nsmallest(sample, numbered)
    return [prompt for _, _, prompt in sorted(drawn, key=lambda entry: entry[1])]


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()


def _refuse_nothing(faults: Faults, counts: Counter[str]) -> None:
    """Say why no prompt is left: faults, contamination, or an empty source."""
    faults.raise_if_any("distill.prompts.prompt_column and reference_column name the columns")
    if counts["read"]:
        raise DataError(
            f"{faults.path}: none of its {counts['read']} prompts is left: all repeat evaluation "
            "questions",
            hint="--set distill.prompts.contaminated=keep only counts them",
        )
    raise DataError(f"{faults.path}: the file is empty")
