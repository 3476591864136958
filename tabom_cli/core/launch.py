"""Start more processes of the same command, or notice that this is one of them.

Knows how torchrun and `accelerate launch` are called; does not know what the command does.
CPU processes go through torchrun, because `accelerate launch --cpu --num_processes N` starts one.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from tabom_cli.core.errors import EXIT_INTERRUPTED, UsageError

MODULE = "tabom_cli.main"


def is_distributed() -> bool:
    """Whether torchrun or `accelerate launch` started this process."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def world_size() -> int:
    """Processes in this run, as torchrun says; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, as torchrun says; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def visible_gpus() -> int:
    """GPUs that this process may use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve_processes(requested: int | None) -> tuple[int, int]:
    """(processes, GPUs) of a run: all visible GPUs by default, one process without GPUs.

    Raises:
        UsageError: More processes than visible GPUs.
    """
    gpus = visible_gpus()
    if is_distributed():
        return world_size(), gpus
    processes = requested or max(gpus, 1)
    if gpus and processes > gpus:
        raise UsageError(
            f"--num-processes {processes} needs as many GPUs, {gpus} are visible",
            hint="lower it, or make more GPUs visible with CUDA_VISIBLE_DEVICES",
        )
    return processes, gpus


def launch_command(
    arguments: Sequence[str],
    *,
    processes: int,
    gpus: int,
    accelerate_args: Mapping[str, str | int] | None = None,
) -> list[str]:
    """The command that starts `processes` copies of `tabom <arguments>`.

    Args:
        arguments: Command-line arguments after `tabom`.
        processes: Processes on this machine.
        gpus: Visible GPUs; 0 runs on the CPU.
        accelerate_args: More arguments for `accelerate launch` by name (several nodes).

    Raises:
        UsageError: There are such arguments and no GPU; CPU processes run on one machine.
    """
    extra = dict(accelerate_args or {})
    if processes == 1 and not extra:
        return [sys.executable, "-m", MODULE, *arguments]
    if not gpus and extra:
        raise UsageError(
            f"train.launch.accelerate_args ({', '.join(extra)}) needs GPUs, none is visible",
            hint="several nodes are started where their GPUs are; --set "
            "train.launch.accelerate_args={} looks at the recipe here",
        )
    if not gpus:
        return [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), "-m", MODULE),
            *arguments,
        ]
    machines = int(extra.get("num_machines", 1))
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    if processes * machines > 1:
        command.append("--multi_gpu")
    command += ["--num_processes", str(processes * machines), "--mixed_precision", "no"]
    command += ["--num_machines", str(machines), "--dynamo_backend", "no"]
    for name, value in extra.items():
        if name != "num_machines":
            command += [f"--{name}", str(value)]
    return [*command, "-m", MODULE, *arguments]


def leave(code: int) -> None:
    """Take this process out of its group as its last act.

    CPU processes (gloo) end here, without tearing anything down: gloo's threads now and then never
    join, and the run would hang when all its work is done. GPU processes (NCCL), which complain about
    a group that is left over, take it down after success; after an error the others may not answer.
    """
    if not is_distributed() or "torch" not in sys.modules:
        return
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if distributed.get_backend() == "gloo":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if code == 0:
        distributed.destroy_process_group()


def shown(command: Sequence[str]) -> str:
    """A command as a line that can be pasted into a shell."""
    return shlex.join(["python" if part == sys.executable else part for part in command])


def run(command: Sequence[str]) -> int:
    """Run a launch command to its end and return its exit code.

    SIGTERM, SIGINT and SIGHUP are passed on, so that the processes can save their state. They get a
    session of their own: Ctrl-C in a terminal would reach each of them a second time.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    stopped: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        child.send_signal(signal.SIGTERM)

    passed_on = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    previous = {name: signal.signal(name, forward) for name in passed_on}
    try:
        code = child.wait()
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
    return EXIT_INTERRUPTED if stopped else code
