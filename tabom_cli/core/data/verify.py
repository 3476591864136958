r"""Whether an answer is right: one verdict per answer, for maths, code and the embedded tasks.

Knows the forms of answers and references; makes no model call and trains on nothing. Code runs in the
sandbox only, symbolic maths in a worker process that can be stopped.

References by kind: `math` takes text (`\boxed{}`, `The answer is`, `####` or the bare answer); `code`
takes JSON `{"setup": str, "tests": [str, ...], "entry_point": str}` of which only `tests` must be
there, run in the order code, setup, tests; the embedded tasks take `Problem.reference`.
"""

from __future__ import annotations

import json
import re

from tabom_cli.assets import tasks
from tabom_cli.core.data.math_answers import judge_math
from tabom_cli.core.data.records import Verdict
from tabom_cli.core.errors import DataError, UsageError
from tabom_cli.core.sandbox import Limits, SandboxResult
from tabom_cli.core.sandbox_proof import run_to_end

KINDS = ("none", "math", "code", "countdown", "arithmetic", "functions", "tasks")
CODE_LIMITS = Limits(time_s=10.0)
FUNCTION_LIMITS = Limits(time_s=5.0, memory_mib=256)

_FENCE = re.compile(r"```([^`\n]*)\n(.*?)(?:```|\Z)", re.DOTALL)
_PYTHON = re.compile(r"\s*(?:python|py)[0-9.]*(?![\w+-])", re.IGNORECASE)


def verify(
    kind: str,
    *,
    prompt: str,
    response: str,
    reference: str | None,
    task: str | None,
    ended: bool,
) -> Verdict:
    """The verdict on one answer; bad answers and bad references never raise.

    `truncated` comes first: an answer without its end is not judged. `unparsable` is an answer that
    has not the form asked for; `wrong` one that was checked and fails; `timeout` a check that took too
    long; `error` a program that crashed or broke a limit, or a reference that cannot be read;
    `unverified` an answer that has no check.

    Args:
        kind: One of `KINDS`; `tasks` takes the check of `task`.
        prompt: The question; no present check needs it.
        response: The answer as text, up to its end.
        reference: What the check compares with; None leaves the answer unverified.
        task: Embedded task the prompt comes from, for `tasks`.
        ended: Whether the decode emitted an end token.

    Raises:
        UsageError: An unknown kind.
        DataError: Kind `tasks` for a prompt that belongs to no task.
        EnvironmentNotReady: Code has to run and this machine refuses the sandbox.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown verifier {kind!r}", hint=f"Verifiers are {', '.join(KINDS)}.")
    if not ended:
        return "truncated"
    if kind == "none" or reference is None:
        return "unverified"
    if kind == "math":
        return judge_math(response, reference)
    if kind == "code":
        return _judge_code(response, reference)
    if kind == "tasks" and task not in tasks.task_names():
        raise DataError(
            f"verifier 'tasks' cannot judge a prompt of task {task!r}",
            hint="Use it for generated problems; for a file name the verifier: math or code.",
        )
    return _judge_task(task if kind == "tasks" and task is not None else kind, response, reference)


def extract_code(response: str) -> str:
    """The first fenced block in Python, else the first without a language, else the first of any.

    The last block may lack its closing fence. Without a block it is the whole response.
    """
    blocks = _FENCE.findall(response)
    in_python = [code for language, code in blocks if _PYTHON.match(language)]
    unnamed = [code for language, code in blocks if not language.strip()]
    return str(next(iter([*in_python, *unnamed, *(code for _, code in blocks)]), response))


def _judge_task(task: str, response: str, reference: str) -> Verdict:
    answer = extract_code(response) if task == "functions" else response
    if not tasks.is_parsable(task, answer):
        return "unparsable"
    try:
        outcome = tasks.check(task, answer, reference)
    except (ValueError, KeyError, TypeError):
        return "error"
    if isinstance(outcome, tasks.Program):
        return _judge_program(outcome.source, FUNCTION_LIMITS)
    return "correct" if outcome else "wrong"


def _judge_code(response: str, reference: str) -> Verdict:
    parts = _code_reference(reference)
    if parts is None:
        return "error"
    setup, tests, entry_point = parts
    code = extract_code(response)
    if not code.strip():
        return "unparsable"
    if entry_point and not re.search(rf"\b{re.escape(entry_point)}\b", code):
        return "unparsable"
    return _judge_program("\n".join((code, setup, *tests)), CODE_LIMITS)


def _code_reference(reference: str) -> tuple[str, list[str], str] | None:
    try:
        fields = json.loads(reference)
        setup, entry_point = fields.get("setup") or "", fields.get("entry_point") or ""
        tests = fields["tests"]
    except (ValueError, KeyError, AttributeError):
        return None
    if not isinstance(tests, list) or not tests:
        return None
    if not all(isinstance(part, str) for part in (setup, entry_point, *tests)):
        return None
    return setup, tests, entry_point


def _judge_program(source: str, limits: Limits) -> Verdict:
    result, has_passed = run_to_end(source, limits=limits)
    if result.status == "ok":
        return "correct" if has_passed else "wrong"
    if result.status == "timeout":
        return "timeout"
    return _failure(result)


def _failure(result: SandboxResult) -> Verdict:
    last_line = result.stderr.rstrip().rpartition("\n")[2]
    if result.status == "failed" and last_line.startswith("AssertionError"):
        return "wrong"
    if result.status == "failed" and last_line.startswith(
        ("SyntaxError", "IndentationError", "TabError")
    ):
        return "unparsable"
    return "error"
