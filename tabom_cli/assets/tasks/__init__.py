"""Three small task domains, generated from a seed and checked without a model.

Knows how problems are dealt, split and de-duplicated; what a problem looks like is in the file of the
task. Pure standard library: nothing here runs untrusted code, `functions` hands back a program to run
in the sandbox.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from types import ModuleType

from tabom_cli.assets.tasks import arithmetic, countdown, functions
from tabom_cli.assets.tasks.problem import Draft, Problem, Program
from tabom_cli.core.errors import DataError, UsageError

__all__ = ["Problem", "Program", "check", "is_parsable", "problems", "split_of", "task_names"]

_MODULES = {"countdown": countdown, "arithmetic": arithmetic, "functions": functions}
_SPLITS = ("train", "validation", "test")
_MAX_MISSES = 20_000


def task_names() -> list[str]:
    """The names of the embedded tasks, in a fixed order."""
    return list(_MODULES)


def split_of(task: str, key: str) -> str:
    """The split that owns a problem: 80 % train, 10 % validation, 10 % test, by hash.

    Args:
        task: Task name.
        key: What makes the problem itself, whatever its wording: two prompts with the same key never
            lie in different splits.
    """
    digest = hashlib.blake2b(f"{task}\0{key}".encode(), digest_size=4).digest()
    bucket = int.from_bytes(digest, "big") % 10
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def problems(
    tasks: Sequence[str], *, split: str, num_problems: int, seed: int = 0
) -> list[Problem]:
    """Problems dealt in turn over the tasks, no prompt twice, the same for the same arguments.

    A longer list of the same seed starts with the shorter one. Splits share no prompt: the split of a
    problem is a hash of the problem itself, and each split also draws from its own seed.

    Args:
        tasks: Any of `task_names()`; a name given twice gets twice the share.
        split: train, validation or test.
        num_problems: Problems in all.
        seed: Another seed draws other problems of the same split.

    Raises:
        UsageError: An unknown task or split.
        DataError: A task that has fewer different problems than were asked for.
    """
    faults = [f"unknown task {name!r}" for name in tasks if name not in _MODULES]
    if not tasks:
        faults.append("no task named")
    if split not in _SPLITS:
        faults.append(f"unknown split {split!r}")
    if faults:
        raise UsageError(
            "; ".join(faults),
            hint=f"Tasks are {', '.join(_MODULES)}; splits are {', '.join(_SPLITS)}.",
        )
    streams = {task: _stream(task, split, seed) for task in tasks}
    return [next(streams[tasks[index % len(tasks)]]) for index in range(num_problems)]


def check(task: str, response: str, reference: str) -> bool | Program:
    """Whether a response is right, or the program that tells by exiting 0.

    Args:
        task: One of `task_names()`.
        response: The model's answer as text, without special tokens.
        reference: `Problem.reference`.
    """
    outcome: bool | Program = _module(task).check(response, reference)
    return outcome


def is_parsable(task: str, response: str) -> bool:
    """Whether the response has the form of an answer, right or wrong."""
    parsable: bool = _module(task).is_parsable(response)
    return parsable


def _module(task: str) -> ModuleType:
    if task not in _MODULES:
        raise UsageError(f"unknown task {task!r}", hint=f"Tasks are {', '.join(_MODULES)}.")
    return _MODULES[task]


def _stream(task: str, split: str, seed: int) -> Iterator[Problem]:
    draft = _MODULES[task].draft
    rng = random.Random(f"{task}/{split}/{seed}")  # a string seed is hashed, not `hash()`ed
    seen: set[str] = set()
    misses = 0
    while misses < _MAX_MISSES:
        candidate: Draft = draft(rng)
        if split_of(task, candidate.key) != split or candidate.prompt in seen:
            misses += 1
            continue
        misses = 0
        seen.add(candidate.prompt)
        digest = hashlib.blake2b(candidate.prompt.encode(), digest_size=8).hexdigest()
        yield Problem(
            id=f"{task}-{digest}",
            task=task,
            prompt=candidate.prompt,
            answer=candidate.answer,
            reference=candidate.reference(),
            split=split,
        )
    raise DataError(
        f"{task}/{split}: no new problem in {_MAX_MISSES} draws after {len(seen)} problems",
        hint="Ask for fewer problems of this task.",
    )
