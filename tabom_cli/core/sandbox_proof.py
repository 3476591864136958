"""Whether an untrusted program passed the tests at its end, or only says so.

Knows programs made of an answer and the tests behind it; does not know what the answer is for. Answer and
tests share one interpreter, so nothing in it can be kept from an answer that looks for it.
"""

from __future__ import annotations

import secrets

from tabom_cli.core.sandbox import Limits, SandboxResult, run_python

RUNNER = """\
exec(compile({program!r}, "program.py", "exec"))
print({word!r})
"""
_IMPOSSIBLE_TEST = "\nassert False\n"


def run_to_end(program: str, *, limits: Limits, runner: str = RUNNER) -> tuple[SandboxResult, bool]:
    """How a program ended, and whether all of its tests held.

    An exit code of 0 is no proof, since the answer may exit before the tests, so a random word is
    printed behind them. The word is no proof either, since the answer can find and print it, so a program
    that shows it runs once more with a test that cannot hold: when the word comes again, it does not
    depend on the tests.

    Args:
        program: Answer and tests, which raise when they fail.
        limits: What one run may use.
        runner: Source with the fields `program` and `word`, which prints the word last.

    Raises:
        EnvironmentNotReady: This machine refuses the sandbox; nothing was run.
    """
    result, word = _run(program, limits, runner)
    if result.status != "ok" or not result.stdout.rstrip().endswith(word):
        return result, False
    impossible, other_word = _run(program + _IMPOSSIBLE_TEST, limits, runner)
    return result, other_word not in impossible.stdout


def _run(program: str, limits: Limits, runner: str) -> tuple[SandboxResult, str]:
    word = secrets.token_hex(16)
    return run_python(runner.format(program=program, word=word), limits=limits), word
