"""The short form of `make soak`: real processes of the tiny model, killed and resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "soak.py"


def test_a_distillation_killed_at_random_moments_gives_exactly_the_rows_of_one_left_alone(
    tmp_path: Path,
) -> None:
    arguments = [
        "--prompts",
        "60",
        "--kills",
        "4",
        "--batch-size",
        "4",
        "--max-new-tokens",
        "12",
        "--keep",
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert (figures["rows"], figures["distinct_ids"], figures["kills"]) == (60, 60, 4)
    assert figures["same_rows"]
    # At least one kill fell into the run, neither before the first row nor after the last.
    assert any(0 < rows < 60 for rows in figures["killed_at_rows"])
    assert figures["rows_decoded_otherwise"] == 0
    manifest = json.loads((tmp_path / "victim.manifest.json").read_text())
    assert (manifest["status"], manifest["num_rows"]) == ("complete", 60)
