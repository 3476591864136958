"""Whether a training prompt is a question of an evaluation set: word for word, or by long n-grams.

Knows the layout of a benchmark folder (`--data-dir`) and words; no tokenizer and no answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tabom_cli.core.data.lines import Faults, read_objects
from tabom_cli.core.errors import DataError

Kind = Literal["exact", "n-gram"]
MBPP_TEST = range(11, 511)
"""Task ids of the MBPP test split, as its authors number them."""

_SETS: Mapping[str, tuple[str, str]] = {
    "gsm8k": ("gsm8k/test.jsonl", "question"),
    "math500": ("math500/test.jsonl", "problem"),
    "humaneval": ("humaneval/HumanEval.jsonl", "prompt"),
    "mbpp": ("mbpp/mbpp.jsonl", "text"),
    "ifeval": ("ifeval/input_data.jsonl", "prompt"),
}
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Match:
    """Where a prompt was found.

    Attributes:
        benchmark: Name of the evaluation set.
        kind: `exact` when all words agree, else `n-gram`.
    """

    benchmark: str
    kind: Kind


class EvaluationQuestions:
    """The questions of the evaluation sets in a folder, ready to be looked up.

    Attributes:
        benchmarks: Sets that were found, with their number of questions.

    Args:
        data_dir: Folder with the benchmarks as JSONL; sets that are not there are not checked.
        ngram: Words in a row that two texts must share.

    Raises:
        DataError: The folder is missing, holds no evaluation set, or a set is damaged.
    """

    def __init__(self, data_dir: Path, *, ngram: int = 13) -> None:
        self._ngram = ngram
        self._texts: dict[str, str] = {}
        self._ngrams: dict[str, str] = {}
        self.benchmarks: dict[str, int] = {}
        for name, question in _questions(data_dir):
            words = _words(question)
            self.benchmarks[name] = self.benchmarks.get(name, 0) + 1
            self._texts.setdefault(" ".join(words), name)
            for gram in _grams(words, ngram):
                self._ngrams.setdefault(gram, name)
        if not self.benchmarks:
            raise DataError(
                f"{data_dir}: no evaluation set found",
                hint=f"expected any of {', '.join(file for file, _ in _SETS.values())}",
            )

    def find(self, text: str) -> Match | None:
        """The first evaluation question that the text repeats; case and punctuation do not count."""
        words = _words(text)
        if not words:
            return None
        exact = self._texts.get(" ".join(words))
        if exact is not None:
            return Match(exact, "exact")
        for gram in _grams(words, self._ngram):
            if gram in self._ngrams:
                return Match(self._ngrams[gram], "n-gram")
        return None


def _questions(data_dir: Path) -> Iterator[tuple[str, str]]:
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such data folder", hint="check --data-dir")
    for name, (file, column) in _SETS.items():
        path = data_dir / file
        if not path.is_file():
            continue
        faults = Faults(path)
        for line, row in read_objects(path, faults):
            if _is_evaluated(name, row):
                question = row.get(column)
                if isinstance(question, str):
                    yield name, question
                else:
                    faults.add(line, f"no text in column '{column}'")
        faults.raise_if_any("the contamination check reads the evaluation sets in --data-dir")


def _is_evaluated(name: str, row: Mapping[str, Any]) -> bool:
    return name != "mbpp" or row.get("task_id") in MBPP_TEST


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: Sequence[str], size: int) -> Iterator[str]:
    for start in range(len(words) - size + 1):
        yield " ".join(words[start : start + size])
