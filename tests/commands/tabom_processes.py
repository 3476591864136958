"""Starts `tabom` as processes of their own that can be killed, without importing torch each time.

A helper process imports everything once and forks for every command: each is a fresh process in all
that matters (memory, signals, files) and starts in a tenth of a second. Also writes the small model
and the small recipe that the tests of the commands share.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tabom_cli.assets import tiny_path
from tabom_cli.assets.tasks import problems
from tabom_cli.core.models.footprint import parameter_shapes

PROMPT_LENGTH, RESPONSE_LENGTH = 56, 12


@dataclass(frozen=True)
class Finished:
    """What a command left: exit code (negative: the signal that killed it) and its output."""

    code: int
    stdout: str
    stderr: str


def run_fresh(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, module: str = "tabom_cli.main"
) -> Finished:
    """`tabom ARGUMENTS` in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


class Command:
    """A running `tabom` command."""

    def __init__(self, nursery: Nursery, pid: int, output: Path) -> None:
        self._nursery, self.pid, self._output = nursery, pid, output

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a command that has ended is left alone."""
        os.kill(self.pid, number)

    def wait(self) -> Finished:
        """Wait for the end."""
        code = self._nursery.ask({"wait": self.pid})
        texts = [
            self._output.with_suffix(suffix).read_text(encoding="utf-8")
            for suffix in (".out", ".err")
        ]
        return Finished(code, *texts)

    def wait_for(self, condition: Any, timeout_s: float = 60.0) -> None:
        """Wait until `condition()` is true while the command runs."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "the command did not get there"
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            assert state != "Z", self.wait()
            time.sleep(0.002)


class Nursery:
    """The helper process that forks commands."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(self, *arguments: str, cwd: Path, limits: Mapping[str, int] | None = None) -> Command:
        """Start `tabom ARGUMENTS` in a folder, with resource limits by name (`RLIMIT_FSIZE`)."""
        self._count += 1
        output = self._folder / f"command{self._count}"
        pid = self.ask(
            {
                "arguments": list(arguments),
                "cwd": str(cwd),
                "output": str(output),
                "limits": dict(limits or {}),
            }
        )
        return Command(self, pid, output)

    def run(self, *arguments: str, cwd: Path, limits: Mapping[str, int] | None = None) -> Finished:
        """Run `tabom ARGUMENTS` to its end."""
        return self.start(*arguments, cwd=cwd, limits=limits).wait()

    def ask(self, message: Mapping[str, Any]) -> int:
        """One request to the helper, and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the helper."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)


_SERVER = """
    import json, os, resource, signal, sys
    import peft, torch, transformers  # noqa: F401
    from tabom_cli import main
    from tabom_cli.core.data import mixture, rows  # noqa: F401
    from tabom_cli.core.decoding import scheduler  # noqa: F401
    from tabom_cli.core.distillation import service  # noqa: F401
    from tabom_cli.core.models import dream, load, lora  # noqa: F401
    from tabom_cli.core.training import loop, plan, resume, setup  # noqa: F401

    def child(job):
        os.chdir(job["cwd"])
        # A test run in the background of a shell inherits that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, suffix in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(job["output"] + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        for name, value in job["limits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
        sys.argv = ["tabom", *job["arguments"]]
        code = 0
        try:
            main.run()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)

    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            answer = os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                child(job)
        print(answer, flush=True)
"""


def write_small_model(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """A Dream checkpoint of 60,000 random parameters with the tokenizer that ships with tabom."""
    folder.mkdir(parents=True)
    config = json.loads((tiny_path() / "config.json").read_text())
    config |= {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config |= {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "torch_dtype": "float32",
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_path() / name, folder / name)
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.ones(shape) if "norm" in name else 0.2 * torch.randn(shape, generator=generator)
        for name, shape in parameter_shapes(config).items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def trajectory_rows(count: int = 12) -> list[dict[str, Any]]:
    """Rows of invented answers whose orders are permutations."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for index, problem in enumerate(problems(["countdown"], split="train", num_problems=count)):
        ids = torch.randint(5, 600, (RESPONSE_LENGTH,), generator=generator).tolist()
        order = torch.randperm(RESPONSE_LENGTH, generator=generator).tolist()
        row = {"id": f"row{index}", "group_id": f"row{index}", "prompt": problem.prompt}
        row |= {"response": "x", "response_token_ids": ids, "decoding_order": order}
        rows.append(row | {"method": "entropy"})
    return rows


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


RECIPE = f"""\
name: small
seed: 5
model:
  path: base
  dtype: float32
lora:
  rank: 4
  alpha: 4
  dropout: 0.1
  target_modules: [q_proj, v_proj]
data:
  path: rows.jsonl
  source: a drawer in the laboratory
  max_prompt_length: {PROMPT_LENGTH}
  response_length: {RESPONSE_LENGTH}
distill:
  prompts:
    generate: {{tasks: [countdown], num_problems: 10, split: train}}
  num_samples: 2
  verifier: countdown
  max_prompt_length: {PROMPT_LENGTH}
  output: distilled.jsonl
  decode: {{strategy: entropy, steps: {RESPONSE_LENGTH}, max_new_tokens: {RESPONSE_LENGTH},
    temperature: 1.0, confidence_temperature: 1.0, token_pick: sample, batch_size: 4}}
objective:
  name: tabom
  supervision_window: 6
  rank_window: 6
train:
  epochs: 3
  global_batch_size: 4
  micro_batch_size: 2
  learning_rate: 1e-2
  warmup_steps: 2
  precision: float32
  validation_fraction: 0.2
  save_every: 2
eval:
  tasks: [countdown]
  limit: 4
  decode: {{strategy: entropy, steps: 4, max_new_tokens: 8, confidence_temperature: 1.0}}
tds:
  num_prompts: 2
"""


def write_small_run(folder: Path, base: Path, *, num_rows: int = 12) -> Path:
    """A working folder with `small.yaml`, its model and its data; returns the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base").symlink_to(base)
    write_lines(folder / "rows.jsonl", trajectory_rows(num_rows))
    recipe = folder / "small.yaml"
    recipe.write_text(RECIPE)
    return recipe
