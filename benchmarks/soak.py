"""Kill a distillation at random moments until it is done, and compare it with one that was left alone.

    python benchmarks/soak.py                             5,000 prompts, 20 kills (make soak)
    python benchmarks/soak.py --prompts 60 --kills 4      what CI runs

Both runs are `tabom distill` processes on the embedded tiny model. The victim gets SIGKILL at random
numbers of rows, and a moment later, so that kills also fall into writes and into model loading. Both files
must hold the same rows in the same order, and the memory of the undisturbed run must stay flat. Only
entropies may differ, by the rounding of a forward pass with other batch mates (at most 1e-4).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

STARTUP_LIMIT_S = 600.0
MEMORY_GROWTH = 1.05
"""Memory of the last quarter over that of the second one that still counts as flat."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--max-new-tokens", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files; default temporary")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="tabom_soak_"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        figures = soak(folder, arguments)
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder)
    print(json.dumps(figures, indent=2))
    sys.exit(0 if figures["same_rows"] and figures["memory_flat"] else 1)


def soak(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    whole, victim = folder / "whole.jsonl", folder / "victim.jsonl"
    for old in (*folder.glob("*whole*"), *folder.glob("*victim*")):
        old.unlink()
    start = time.monotonic()
    memory = run_alone(command(whole, arguments), whole)
    alone_s = time.monotonic() - start
    draw = random.Random(arguments.seed)
    targets = sorted(draw.randrange(arguments.prompts) for _ in range(arguments.kills))
    kills = [kill_at(command(victim, arguments), victim, rows, draw) for rows in targets]
    start = time.monotonic()
    subprocess.run(command(victim, arguments), check=True, capture_output=True)
    resume_s = time.monotonic() - start
    rows = whole.read_bytes().splitlines()
    same = compare(whole, victim)
    second, last = quarter(memory, 1), quarter(memory, 3)
    return {
        "prompts": arguments.prompts,
        "rows": len(rows),
        "distinct_ids": len({json.loads(row)["id"] for row in rows}),
        **same,
        "kills": len(kills),
        "killed_at_rows": [found for found, _ in kills],
        "torn_last_rows": sum(torn for _, torn in kills),
        "seconds_undisturbed": round(alone_s, 1),
        "rows_per_s_undisturbed": round(len(rows) / alone_s, 2),
        "seconds_of_the_last_resume": round(resume_s, 1),
        "memory_mib_second_quarter": round(second, 1),
        "memory_mib_last_quarter": round(last, 1),
        "memory_mib_peak": round(max(memory), 1),
        "memory_flat": last <= second * MEMORY_GROWTH,
    }


def compare(whole: Path, victim: Path) -> dict[str, object]:
    """Whether two files hold the same rows, how many decoded otherwise, and how far entropies differ."""
    first, second = ([json.loads(line) for line in path.open()] for path in (whole, victim))
    made = ("response", "response_token_ids", "decoding_order", "non_ltr_positions", "verdict")
    made = (*made, "reward", "decoding_entropy")
    asked = [
        [{key: value for key, value in row.items() if key not in made} for row in rows]
        for rows in (first, second)
    ]
    others, largest = 0, 0.0
    for one, two in zip(first, second, strict=False):
        if any(one[key] != two[key] for key in made[:-1]):
            others += 1
            continue
        pairs = zip(one["decoding_entropy"], two["decoding_entropy"], strict=True)
        largest = max(largest, *(abs(a - b) for a, b in pairs))
    return {
        "same_rows": asked[0] == asked[1] and not others and largest <= 1e-4,
        "rows_decoded_otherwise": others,
        "largest_entropy_difference": largest,
    }


def command(output: Path, arguments: argparse.Namespace) -> list[str]:
    settings = {
        "distill.prompts.generate.num_problems": arguments.prompts,
        "distill.num_samples": 1,
        # A threshold gives rows unequal numbers of steps, so that they do not finish in waves.
        "distill.decode.threshold": 0.6,
        "distill.decode.steps": arguments.max_new_tokens,
        "distill.decode.max_new_tokens": arguments.max_new_tokens,
        "distill.decode.batch_size": arguments.batch_size,
    }
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    line = [sys.executable, "-m", "tabom_cli.main", "distill", "--recipe", "tiny", *overrides]
    return [*line, "--output", str(output)]


def run_alone(line: Sequence[str], output: Path) -> list[float]:
    """Run to the end; resident memory in MiB, taken twice a second once rows appear."""
    child = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    memory = []
    while child.poll() is None:
        if output.exists() and output.stat().st_size:
            memory.append(resident_mib(child.pid))
        time.sleep(0.1 if len(memory) < 100 else 0.5)
    if child.returncode != 0:
        sys.exit(f"the undisturbed run failed with code {child.returncode}: {' '.join(line)}")
    return [value for value in memory if value] or [0.0]


def kill_at(line: Sequence[str], output: Path, rows: int, draw: random.Random) -> tuple[int, bool]:
    """SIGKILL once the file has so many rows, or a moment later; rows then, and whether one was torn."""
    child = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + STARTUP_LIMIT_S
    while child.poll() is None and num_rows(output) <= rows and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(draw.uniform(0, 0.02))
    child.send_signal(signal.SIGKILL)
    child.wait()
    content = output.read_bytes() if output.exists() else b""
    return content.count(b"\n"), bool(content) and not content.endswith(b"\n")


def num_rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def quarter(values: Sequence[float], index: int) -> float:
    size = max(1, len(values) // 4)
    return statistics.fmean(values[index * size : (index + 1) * size] or values[-1:])


if __name__ == "__main__":
    main()
