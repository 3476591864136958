r"""Maths answers: finding the final one in a text, and comparing it with the reference.

Knows the three forms of a final answer (`\boxed{}`, `####`, `The answer is`); leaves symbolic
comparison to math-verify in a worker process, since a power tower cannot be interrupted from within
and signals do not work in threads.
"""

from __future__ import annotations

import atexit
import json
import re
import selectors
import subprocess
import sys
import threading
import time

from tabom_cli.core.data.records import Verdict
from tabom_cli.core.errors import EnvironmentNotReady

COMPARE_S = 10.0
MAX_CHARACTERS = 2000

_START_S = 120.0
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_SENTENCE = re.compile(
    r"\b(?:the|final)[ \t]+answer[ \t]+is:?[ \t]*([^\n]+?)(?:\.(?=\s|$)|\n|$)", re.IGNORECASE
)
_NUMBER = re.compile(r"-?[0-9]{1,15}")


def final_answer(text: str) -> str | None:
    """The last final answer in a text: boxed, else after `####`, else after `The answer is`."""
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed.strip() or None
    for pattern in (_HASHES, _SENTENCE):
        found = pattern.findall(text)
        if found:
            return _bare(found[-1]) or None
    return None


def judge_math(response: str, reference: str, *, time_s: float = COMPARE_S) -> Verdict:
    """Correct, wrong, unparsable, timeout or (for a reference that cannot be read) error.

    Args:
        response: The model's answer.
        reference: Text with a final answer, or the bare answer.
        time_s: Wall-clock limit of the comparison.
    """
    answer = final_answer(response)
    if answer is None or len(answer) > MAX_CHARACTERS:
        return "unparsable"
    expected = final_answer(reference) or _bare(reference)
    if not expected or len(expected) > MAX_CHARACTERS:
        return "error"
    plain_answer, plain_expected = _plain(answer), _plain(expected)
    if plain_answer == plain_expected:
        return "correct"
    if _NUMBER.fullmatch(plain_answer) and _NUMBER.fullmatch(plain_expected):
        return "correct" if int(plain_answer) == int(plain_expected) else "wrong"
    return _worker.compare(answer, expected, time_s)


def _last_boxed(text: str) -> str | None:
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start) + 1
    depth = 1
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position]
    return ""


def _bare(text: str) -> str:
    return text.strip().strip("*").removesuffix(".").strip()


def _plain(text: str) -> str:
    stripped = text.strip().strip("$").removeprefix("\\$").strip()
    return re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", stripped)


class _Worker:
    """One process that compares, started when first needed and after each one that was stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def compare(self, answer: str, expected: str, time_s: float) -> Verdict:
        request = json.dumps({"answer": answer, "expected": expected}).encode() + b"\n"
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            try:
                process.stdin.write(request)
                process.stdin.flush()
            except BrokenPipeError:
                self.stop()
                return "error"
            line = _line_within(process, time_s)
            if line is None:
                self.stop()
                return "timeout"
            if not line.endswith(b"\n"):
                self.stop()
                return "error"
            verdict: Verdict = json.loads(line)
            return verdict

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tabom_cli.core.data.math_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the run, not for its helper
                bufsize=0,
            )
            if _line_within(self._process, _START_S) != b'"ready"\n':
                self.stop()
                raise EnvironmentNotReady(
                    "the maths checker did not start",
                    hint=f"Try: {sys.executable} -c 'import math_verify'",
                )
        return self._process


def _line_within(process: subprocess.Popen[bytes], time_s: float) -> bytes | None:
    """One line; None when time is up; what there was when the process ended."""
    assert process.stdout is not None
    deadline, line = time.monotonic() + time_s, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            chunk = process.stdout.read(4096)
            if not chunk:
                break
            line += chunk
    return line


_worker = _Worker()
atexit.register(_worker.stop)
