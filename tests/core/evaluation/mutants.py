"""Wrong variants of right programs, and an independent look at which assertions they break.

The look runs in a plain process without the sandbox and without the judge: assertions are replaced by
records of their truth. Only reference solutions and their fixed mutations are run here.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Sequence

_RUNNER = """
import contextlib, io, json, signal, sys
def stop(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, stop)
found = []
for program in json.load(sys.stdin):
    truths = []
    signal.alarm(3)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(program, "mutant.py", "exec"), {"_record": truths.append})
        ended = True
    except BaseException:
        ended = False
    signal.alarm(0)
    found.append([all(truths), ended, len(truths)])
print(json.dumps(found))
"""


def mutations(code: str, entry: str) -> dict[str, str]:
    """The code with its entry point's last result replaced, and with its first number off by one.

    Args:
        code: A program that defines `entry`.
        entry: Name of a function.
    """
    found = {}
    for name, change in (("return replaced", _ReplaceReturn()), ("off by one", _OffByOne())):
        tree = ast.parse(code)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == entry:
                change.visit(node)
        if change.done:
            found[name] = ast.unparse(ast.fix_missing_locations(tree))
    return found


def breaks_an_assertion(programs: Sequence[str]) -> list[bool | None]:
    """Whether some assertion of each program is false; None when it raises before or has none."""
    recorded = [
        ast.unparse(ast.fix_missing_locations(_RecordAsserts().visit(ast.parse(p))))
        for p in programs
    ]
    done = subprocess.run(
        [sys.executable, "-c", _RUNNER],
        input=json.dumps(recorded),
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        (not all_true) if ended and count else None
        for all_true, ended, count in json.loads(done.stdout)
    ]


class _RecordAsserts(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        truth = ast.Call(ast.Name("bool", ast.Load()), [node.test], [])
        call = ast.Call(ast.Name("_record", ast.Load()), [truth], [])
        return ast.copy_location(ast.Expr(call), node)


class _ReplaceReturn(ast.NodeTransformer):
    """Every result becomes a text that no test expects."""

    done = False

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if node.value is None:
            return node
        self.done = True
        return ast.copy_location(ast.Return(ast.Constant("wrong result")), node)


class _OffByOne(ast.NodeTransformer):
    """The first whole number of the body grows by one."""

    done = False

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if self.done or isinstance(node.value, bool) or not isinstance(node.value, int):
            return node
        self.done = True
        return ast.copy_location(ast.Constant(node.value + 1), node)
