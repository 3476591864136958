"""Plugins are found by file name, listed without importing, and unknown names get the nearest one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tabom_cli.core import plugins
from tabom_cli.core.errors import RecipeError

EXPECTED = {
    "model family": {"dream", "llada"},
    "decode strategy": {
        "entropy",
        "maskgit_plus",
        "topk_margin",
        "origin",
        "low_confidence",
        "random",
    },
    "objective": {"tabom", "nelbo"},
    "evaluation task": {
        "gsm8k_cot",
        "humaneval_instruct",
        "mbpp_instruct",
        "countdown",
        "functions",
    },
}


@pytest.mark.parametrize("kind", sorted(plugins.KINDS))
def test_every_file_of_a_plugin_folder_that_is_not_shared_is_a_plugin(kind: str) -> None:
    found = plugins.names(kind)
    assert found == sorted(found)
    assert EXPECTED[kind] <= set(found)
    assert not {"base", "config", "load", "ranking", "tiny_task"} & set(found)
    for name in found:
        module = plugins.load(kind, name)
        assert module.__name__ == f"{plugins.KINDS[kind]}.{name}"


@pytest.mark.parametrize(
    ("kind", "attribute"),
    [("objective", "OBJECTIVE"), ("decode strategy", "STRATEGY"), ("model family", "NETWORK")],
)
def test_every_plugin_offers_what_its_kind_promises(kind: str, attribute: str) -> None:
    for name in plugins.names(kind):
        assert hasattr(plugins.load(kind, name), attribute), name


def test_listing_imports_no_plugin() -> None:
    code = """
import sys
from tabom_cli.core import plugins
for kind in plugins.KINDS:
    plugins.names(kind)
print([name for name in sys.modules if name in ("torch", "transformers", "lm_eval")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [
        ("objective", "taboms", "tabom"),
        ("objective", "nelb", "nelbo"),
        ("decode strategy", "entropi", "entropy"),
        ("decode strategy", "top_margin", "topk_margin"),
        ("evaluation task", "humaneval", "humaneval_instruct"),
        ("model family", "lada", "llada"),
    ],
)
def test_an_unknown_name_lists_what_there_is_and_offers_the_nearest(
    kind: str, name: str, near: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        plugins.load(kind, name)
    assert f"unknown {kind} '{name}': there are " in caught.value.message
    assert all(known in caught.value.message for known in plugins.names(kind))
    assert caught.value.hint == f"did you mean '{near}'?"


def test_a_name_like_nothing_gets_no_suggestion_and_a_shared_file_is_no_plugin() -> None:
    with pytest.raises(RecipeError) as caught:
        plugins.load("objective", "qqqqqq")
    assert caught.value.hint is None
    for name in ("base", "states", "../core", "os"):
        with pytest.raises(RecipeError):
            plugins.load("objective", name)
