"""Verdicts: every kind of answer check with right, wrong, malformed and hostile answers."""

from __future__ import annotations

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tabom_cli.assets import tasks
from tabom_cli.core.data import math_answers
from tabom_cli.core.data import verify as verify_module
from tabom_cli.core.data.math_answers import final_answer, judge_math
from tabom_cli.core.data.verify import extract_code, verify
from tabom_cli.core.errors import DataError, UsageError
from tabom_cli.core.sandbox import Limits, why_unavailable

needs_sandbox = pytest.mark.skipif(
    why_unavailable() is not None, reason=f"no sandbox here: {why_unavailable()}"
)
SQUARE = json.dumps({"tests": ["assert f(2) == 4", "assert f(-3) == 9"], "entry_point": "f"})


def _verdict(
    kind: str, response: str, reference: str | None, task: str | None = None, ended: bool = True
) -> str:
    return verify(kind, prompt="q", response=response, reference=reference, task=task, ended=ended)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
        (r"first \boxed{1}, no: \boxed{2}", "2"),
        (r"\boxed{1", None),
        ("9 + 9 = 18\n#### 18", "18"),
        ("#### 1,234\n", "1,234"),
        ("The answer is 42.", "42"),
        ("the final answer is: 3.5", "3.5"),
        ("The answer is 4. No, the answer is 5. Good.", "5"),
        (r"The answer is \boxed{7}.", "7"),
        ("I think 42", None),
        ("", None),
    ],
)
def test_final_answer_is_the_last_of_its_form(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("response", "reference", "verdict"),
    [
        ("The answer is 72.", "#### 72", "correct"),
        ("The answer is 1,234", "1234", "correct"),
        ("The answer is $18", "She makes 18.\n#### 18", "correct"),
        ("The answer is 072", "72", "correct"),
        ("#### 73", "72", "wrong"),
        (r"\boxed{0.5}", r"The answer is \boxed{\frac12}", "correct"),
        (r"\boxed{x^2+2x+1}", "(x+1)^2", "correct"),
        (r"\boxed{(3,\frac{\pi}{2})}", r"\left( 3, \frac{\pi}{2} \right)", "correct"),
        (r"\boxed{(\frac{\pi}{2}, 3)}", r"\left( 3, \frac{\pi}{2} \right)", "wrong"),
        (r"\boxed{\sqrt{2}}", "1.5", "wrong"),
        ("72", "72", "unparsable"),
        ("The answer is 72", "", "error"),
        (r"\boxed{" + "1" * 5000 + "}", "72", "unparsable"),
        ("The answer is 72", "x" * 5000, "error"),
        ("The answer is 72", r"\frac{1}{", "error"),
        ("The answer is 72", "???", "error"),
    ],
)
def test_maths_answers(response: str, reference: str, verdict: str) -> None:
    assert _verdict("math", response, reference) == verdict


@pytest.mark.parametrize("tower", [r"9^{9^{9^9}}", r"10^{10^{10}}", r"100000!!!"])
def test_endless_mathematics_ends_and_the_next_answer_is_judged(tower: str) -> None:
    started = time.monotonic()
    verdict = judge_math(rf"\boxed{{{tower}}}", r"\frac{8}{3}", time_s=4.0)
    assert verdict in ("timeout", "wrong", "error")
    assert time.monotonic() - started < 30
    assert judge_math(r"\boxed{\frac{8}{3}}", r"2\frac{2}{3}") == "correct"


def test_worker_that_does_not_answer_is_replaced() -> None:
    assert judge_math(r"\boxed{\frac{1}{3}}", r"\frac{2}{6}") == "correct"
    process = math_answers._worker._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    assert math_answers._worker.compare("1", "2", 0.3) == "timeout"
    assert process.poll() is not None
    assert judge_math(r"\boxed{\frac{1}{3}}", r"\frac{2}{6}") == "correct"


def test_worker_that_died_is_replaced() -> None:
    judge_math(r"\boxed{\frac{1}{3}}", r"\frac{2}{6}")
    process = math_answers._worker._process
    assert process is not None
    process.kill()
    process.wait()
    assert judge_math(r"\boxed{\frac{1}{3}}", r"\frac{2}{6}") == "correct"


def test_maths_is_judged_in_threads() -> None:
    assert threading.current_thread() is threading.main_thread()
    pairs = [(rf"\boxed{{\frac{{{n}}}{{7}}}}", rf"\frac{{{n + n % 2}}}{{7}}") for n in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda pair: judge_math(*pair), pairs))
    assert verdicts == ["wrong", "correct"] * 4


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("x = 1", "x = 1"),
        ("Sure:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```py\nx = 1", "x = 1"),
        ("```python\nx = 1\n```\n```python\nx = 2\n```", "x = 1\n"),
        ("```Python\nx = 1\n```", "x = 1\n"),
        ("```PY\r\nx = 1\n```", "x = 1\n"),
        ("``` python3.12 title=a.py\nx = 1\n```", "x = 1\n"),
        ("```text\n4 9\n```\nso\n```python\nx = 1\n```", "x = 1\n"),
        ("```text\n4 9\n```\nso\n```\nx = 1\n```", "x = 1\n"),
        ("```\n4 9\n```\nso\n```Python\nx = 1", "x = 1"),
        ("```c++\nx = 1;\n```", "x = 1;\n"),
        ("```python-repl\n>>> 1\n```\n```\nx = 1\n```", "x = 1\n"),
        ("```python", "```python"),
    ],
)
def test_code_is_taken_from_the_first_python_fence(response: str, code: str) -> None:
    assert extract_code(response) == code


@needs_sandbox
@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("def f(x):\n    return x * x", "correct"),
        ("Here:\n```python\ndef f(x):\n    return x ** 2\n```\nDone.", "correct"),
        ("def f(x):\n    return 2 * x", "wrong"),
        ("def f(x): return", "wrong"),
        ("def f(x) return x", "unparsable"),
        ("def g(x):\n    return x", "unparsable"),
        ("", "unparsable"),
        ("def f(x):\n    return y", "error"),
        ("import os\ndef f(x):\n    os._exit(0)", "wrong"),
        ("raise SystemExit\ndef f(x): pass", "wrong"),
        ("def f(x):\n    print('y' * 10**6)", "error"),
        ("def f(x):\n    return bytearray(10**11)", "error"),
        ("import os\ndef f(x):\n    os.kill(os.getpid(), 11)", "error"),
        ("def f(x):\n    open('/etc/passwd')", "error"),
    ],
)
def test_code_answers(response: str, verdict: str) -> None:
    assert _verdict("code", response, SQUARE) == verdict


@needs_sandbox
def test_code_that_loops_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "CODE_LIMITS", Limits(time_s=0.5))
    assert _verdict("code", "def f(x):\n    while True: pass", SQUARE) == "timeout"


@needs_sandbox
def test_setup_runs_after_the_code_and_before_the_tests() -> None:
    reference = json.dumps({"setup": "limit = f(1) + 1", "tests": ["assert limit == 2"]})
    assert _verdict("code", "def f(x):\n    return x", reference) == "correct"


@pytest.mark.parametrize(
    "reference", ["", "no json", "[]", "{}", '{"tests": []}', '{"tests": "x"}', '{"tests": [1]}']
)
def test_code_reference_that_cannot_be_read_is_an_error(reference: str) -> None:
    assert _verdict("code", "def f(x):\n    return x", reference) == "error"


@pytest.mark.parametrize("task", ["countdown", "arithmetic", "functions"])
@pytest.mark.parametrize("kind", ["tasks", None])
def test_answer_of_each_task_is_correct_and_of_another_wrong(task: str, kind: str | None) -> None:
    if task == "functions" and why_unavailable() is not None:
        pytest.skip(str(why_unavailable()))
    one, other = tasks.problems([task], split="test", num_problems=2)
    kind = kind or task
    assert _verdict(kind, one.answer, one.reference, task) == "correct"
    assert _verdict(kind, other.answer, one.reference, task) in ("wrong", "error", "unparsable")
    assert _verdict(kind, "I do not know", one.reference, task) == "unparsable"
    assert _verdict(kind, "", one.reference, task) == "unparsable"


@pytest.mark.parametrize("task", ["countdown", "arithmetic", "functions"])
@pytest.mark.parametrize("reference", ["", "no json", "{}", "[1]"])
def test_task_reference_that_cannot_be_read_is_an_error(task: str, reference: str) -> None:
    (problem,) = tasks.problems([task], split="test", num_problems=1)
    assert _verdict(task, problem.answer, reference) == "error"


@pytest.mark.parametrize("kind", verify_module.KINDS)
def test_answer_without_its_end_is_truncated(kind: str) -> None:
    assert _verdict(kind, "The answer is 3", "3", "arithmetic", ended=False) == "truncated"


@pytest.mark.parametrize("kind", verify_module.KINDS)
def test_answer_without_a_check_is_unverified(kind: str) -> None:
    reference = "3" if kind == "none" else None
    assert _verdict(kind, "The answer is 3", reference, "arithmetic") == "unverified"


def test_unknown_verifier_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="maths") as caught:
        _verdict("maths", "", "")
    assert "math" in str(caught.value.hint)


def test_tasks_refuses_a_prompt_of_no_task() -> None:
    with pytest.raises(DataError, match="None"):
        _verdict("tasks", "x", "y", task=None)
