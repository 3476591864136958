"""Rules of the house that no tool checks: sizes, docstrings, names, and words that must not appear."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "tabom_cli").rglob("*.py"))
LONGEST = 400
# Words that would tie the project to one machine; written in pieces so as not to find themselves.
PRIVATE = ("../" + "shared", "/wo" + "rk/", "pypi" + ".org/simple", "/ro" + "ot/")


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("module", MODULES, ids=names(MODULES))
def test_a_module_is_short_ascii_and_says_what_it_is(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert text.isascii()
    assert len(text.splitlines()) <= LONGEST
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring
    assert len(docstring) > 20


def swallows(handler: ast.ExceptHandler) -> bool:
    broad = handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
    )
    return broad and all(isinstance(line, ast.Pass | ast.Continue) for line in handler.body)


def test_no_module_swallows_an_error_or_prints() -> None:
    found = []
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and swallows(node):
                found.append(f"{module}:{node.lineno}: swallows")
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id == "print":
                found.append(f"{module}:{node.lineno}: print")
    assert found == []


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_file_mentions_a_machine_or_a_folder_outside_the_project() -> None:
    found = []
    for path in tracked():
        if path.suffix in {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {word}" for word in PRIVATE if word in text]
    assert found == []


def test_test_files_have_names_of_their_own() -> None:
    counts = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert {name for name, count in counts.items() if count > 1} <= {"conftest.py"}


def test_the_first_lines_of_the_readme_hold_the_two_commands() -> None:
    head = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20]
    for command in ("make demo", "make test"):
        assert any(re.fullmatch(rf"\s*(\$ )?{command}\b.*", line) for line in head), command


def test_the_makefile_has_the_promised_targets() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert {
        *("help", "install", "demo", "test", "test-all", "format", "lint", "types"),
        *("docs", "docs-check", "smoke", "check"),
    } <= targets
    for name in ("LICENSE", "CHANGELOG.md", "README.md", ".ci/run", ".ci/constraints.txt"):
        assert (ROOT / name).is_file(), name
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
