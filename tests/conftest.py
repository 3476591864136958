"""Shared test paths and settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Folder with the golden data."""
    return FIXTURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly that tests on real benchmarks did not run; pytest shows a skip as one letter."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("TABOM_DATA_DIR" in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(
            f"NOT RUN: {count} tests on real benchmarks. Fetch them with `tabom data pull DIR "
            "gsm8k_cot minerva_math500 humaneval_instruct mbpp_instruct ifeval`, then "
            "TABOM_DATA_DIR=DIR make test-all",
            red=True,
            bold=True,
        )
