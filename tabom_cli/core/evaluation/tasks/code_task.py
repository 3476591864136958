"""Score generated programs in the sandbox instead of with the harness's `code_eval` metric.

A program passes when it runs to its end: the tests are part of it, and code that exits early or only
reports that it came to the end does not pass. Knows no benchmark.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

Outcome = Literal["passed", "failed", "timeout", "crashed"]
Extract = Callable[[str, Mapping[str, Any]], str]
"""An answer and its problem to candidate code."""

TIME_LIMIT_S = 10.0
MEMORY_LIMIT_MIB = 1024
OVERLOAD = 1.5
"""Runnable processes per core above which the wall clock says little about a program."""
OUTCOMES: dict[Outcome, str] = {"failed": "failures", "timeout": "timeouts", "crashed": "crashes"}
"""Names of the metrics that count each way not to pass."""
COUNTS = tuple(OUTCOMES.values())

# The candidate sees an empty namespace, silent output and no `__main__`, as in the usual metric.
_RUNNER = """\
import contextlib, io
class _Silent(io.TextIOBase):
    def write(self, text):
        return len(text)
with contextlib.redirect_stdout(_Silent()), contextlib.redirect_stderr(_Silent()):
    exec(compile({program!r}, "candidate.py", "exec"), {{}})
print({word!r})
"""


@functools.lru_cache(maxsize=8192)
def judge(program: str) -> Outcome:
    """Run a candidate with its tests in the sandbox and say how it ended.

    `crashed` is anything but a Python exception: memory, signals, an early exit. A program that ran
    out of time while the machine was overloaded by others gets a second run.

    Raises:
        EnvironmentNotReady: The sandbox does not work here; nothing was run.
    """
    outcome = _run(program)
    if outcome == "timeout" and os.getloadavg()[0] > OVERLOAD * (os.cpu_count() or 1):
        outcome = _run(program)
    return outcome


def _run(program: str) -> Outcome:
    from tabom_cli.core.sandbox import Limits
    from tabom_cli.core.sandbox_proof import run_to_end

    limits = Limits(time_s=TIME_LIMIT_S, memory_mib=MEMORY_LIMIT_MIB)
    result, has_passed = run_to_end(program, limits=limits, runner=_RUNNER)
    if result.status == "ok":
        return "passed" if has_passed else "crashed"
    if result.status in ("failed", "timeout"):
        return "failed" if result.status == "failed" else "timeout"
    return "crashed"


def code_config(
    config: Mapping[str, Any], *, metric: str, filter_name: str, extract: Extract, program: Extract
) -> dict[str, Any]:
    """A task configuration whose answers are judged by `judge`.

    Args:
        config: The task without filter, metric and code execution.
        metric: Name of the metric that is 1 for passed and 0 otherwise.
        filter_name: Name of the filter; lm-eval's result key is `metric,filter_name`.
        extract: Takes the code out of an answer.
        program: Joins code and tests to a program.
    """

    def take_code(resps: Sequence[Sequence[str]], docs: Sequence[Any]) -> list[list[str]]:
        codes = [
            [extract(answer, doc) for answer in answers]
            for answers, doc in zip(resps, docs, strict=True)
        ]
        # The harness judges one answer at a time; running them here first keeps all cores busy.
        programs = [
            program(code, doc) for group, doc in zip(codes, docs, strict=True) for code in group
        ]
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(judge, programs))
        return codes

    def process_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        outcome = judge(program(results[0][0], doc))
        counts = {name: float(outcome == kind) for kind, name in OUTCOMES.items()}
        return {metric: float(outcome == "passed"), **counts}

    return {
        **config,
        "filter_list": [
            {"name": filter_name, "filter": [{"function": "custom", "filter_fn": take_code}]}
        ],
        "process_results": process_results,
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True},
            *(
                {"metric": name, "aggregation": sum, "higher_is_better": False}
                for name in OUTCOMES.values()
            ),
        ],
        "unsafe_code": True,
    }


def remarks() -> dict[str, str]:
    """What the scores of code tasks depend on besides the answers."""
    return {
        "code execution": f"bubblewrap sandbox, standard library only, {TIME_LIMIT_S:g} s and "
        f"{MEMORY_LIMIT_MIB} MiB a program"
    }
