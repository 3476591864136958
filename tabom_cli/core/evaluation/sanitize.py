"""Take the usable Python out of a model's answer. Runs nothing.

Behaves as the release's HumanEval extraction: the longest block of whole lines that
parses, then imports and the definitions that the entry point reaches. One difference: a caller may name
further roots, because the tests of HumanEval/50 call a second function of the prompt, which the release
drops.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable

MAX_LINES = 100

_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def sanitize(text: str, entry_point: str, *, also: Iterable[str] = ()) -> str:
    """Imports and the definitions reachable from `entry_point`, in their order.

    Without a definition of the entry point, all definitions stay, so that the tests decide.

    Args:
        text: Code, possibly with prose around it.
        entry_point: Name of the function that the tests call.
        also: Further names to keep if they are defined.
    """
    code = longest_valid_block(text)
    tree = _parse(code)
    if tree is None:
        return code
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    definitions = [
        (name, node) for node in tree.body if isinstance(node, _Named) for name in _names(node)
    ]
    needed = _reachable(definitions, entry_point, also)
    wanted = {id(node) for name, node in definitions if needed is None or name in needed} | {
        id(node) for node in imports
    }
    lines = code.splitlines()
    pieces = [_source(lines, node) for node in tree.body if id(node) in wanted]
    return "\n".join(pieces)


def longest_valid_block(text: str) -> str:
    """The consecutive lines that parse as Python and hold the most non-blank lines.

    Only the first 100 lines are looked at; the earliest block wins among equals; the first lines are
    returned unchanged when nothing parses.
    """
    lines = text.split("\n")[:MAX_LINES]
    filled = [0]
    for line in lines:
        filled.append(filled[-1] + bool(line.strip()))
    best, most = "\n".join(lines), 0
    for start in range(len(lines)):
        if filled[-1] - filled[start] <= most:
            break
        for end in range(len(lines), start, -1):
            if filled[end] - filled[start] <= most:
                break
            block = "\n".join(lines[start:end])
            if _parse(block) is not None:
                best, most = block, filled[end] - filled[start]
                break
    return best


def _parse(code: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _names(node: _Named) -> list[str]:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [
            name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
        ]
    return [node.name]


def names_used(code: str) -> set[str]:
    """All names that appear in some code; empty when it does not parse."""
    tree = _parse(code)
    return set() if tree is None else _used(tree)


def _used(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}


def _reachable(
    definitions: list[tuple[str, _Named]], entry_point: str, also: Iterable[str]
) -> set[str] | None:
    """Names that the entry point needs, directly or not; None when nothing defines it."""
    uses: dict[str, set[str]] = {}
    for name, node in definitions:
        uses.setdefault(name, set()).update(_used(node))
    if entry_point not in uses:
        return None
    reached: set[str] = set()
    waiting = [entry_point, *also]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(uses.get(name, ()))
    return reached


def _source(lines: list[str], node: ast.stmt) -> str:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(item.lineno for item in decorators)])
    return "\n".join(lines[first - 1 : node.end_lineno])
