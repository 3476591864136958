"""How processes are started: the command for every kind of machine, and signals that reach them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tabom_cli.core import launch
from tabom_cli.core.errors import EXIT_USAGE, UsageError

ARGUMENTS = ["train", "--recipe", "tiny", "--set", "name=two words"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trace of a launcher around the tests."""
    for name in ("LOCAL_RANK", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_is_a_plain_python_command() -> None:
    for gpus in (0, 1, 8):
        command = launch.launch_command(ARGUMENTS, processes=1, gpus=gpus)
        assert command == [sys.executable, "-m", "tabom_cli.main", *ARGUMENTS]


def test_several_cpu_processes_go_through_torchrun() -> None:
    command = launch.launch_command(ARGUMENTS, processes=3, gpus=0)
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    from torch.distributed.run import get_args_parser

    parsed = get_args_parser().parse_args(command[3:])
    assert (parsed.nproc_per_node, parsed.standalone, parsed.module) == ("3", True, True)
    assert parsed.training_script == "tabom_cli.main"
    assert parsed.training_script_args == ARGUMENTS


def accelerate_arguments(command: list[str]):
    from accelerate.commands.launch import launch_command_parser

    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    return launch_command_parser().parse_args(command[3:])


def test_several_gpus_go_through_accelerate() -> None:
    parsed = accelerate_arguments(launch.launch_command(ARGUMENTS, processes=4, gpus=8))
    assert (parsed.num_processes, parsed.num_machines, parsed.multi_gpu) == (4, 1, True)
    assert (parsed.mixed_precision, parsed.dynamo_backend) == ("no", "no")
    assert (parsed.module, parsed.training_script) == (True, "tabom_cli.main")
    assert parsed.training_script_args == ARGUMENTS


def test_several_nodes_pass_the_recipe_s_accelerate_arguments_on() -> None:
    extra = {
        "num_machines": 2,
        "machine_rank": 1,
        "main_process_ip": "10.0.0.1",
        "main_process_port": 29501,
    }
    command = launch.launch_command(ARGUMENTS, processes=8, gpus=8, accelerate_args=extra)
    parsed = accelerate_arguments(command)
    assert (parsed.num_processes, parsed.num_machines, parsed.multi_gpu) == (16, 2, True)
    assert (parsed.machine_rank, parsed.main_process_ip) == (1, "10.0.0.1")
    assert int(parsed.main_process_port) == 29501
    assert command.count("--num_machines") == 1


def test_two_nodes_of_one_gpu_are_two_processes() -> None:
    extra = {"num_machines": 2, "machine_rank": 0}
    command = launch.launch_command(ARGUMENTS, processes=1, gpus=1, accelerate_args=extra)
    parsed = accelerate_arguments(command)
    assert (parsed.num_processes, parsed.multi_gpu) == (2, True)


def test_several_nodes_without_gpus_are_refused_rather_than_forgotten() -> None:
    with pytest.raises(UsageError, match="accelerate_args"):
        launch.launch_command([], processes=2, gpus=0, accelerate_args={"num_machines": 2})


def test_a_shown_command_can_be_pasted_into_a_shell() -> None:
    shown = launch.shown(launch.launch_command(ARGUMENTS, processes=1, gpus=0))
    assert shown == "python -m tabom_cli.main train --recipe tiny --set 'name=two words'"


def test_a_process_knows_whether_a_launcher_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (launch.is_distributed(), launch.world_size(), launch.rank()) == (False, 1, 0)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert not launch.is_distributed()
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "3")
    assert (launch.is_distributed(), launch.world_size(), launch.rank()) == (True, 4, 3)


@pytest.mark.parametrize(
    ("requested", "gpus", "expected"),
    [
        (None, 0, (1, 0)),
        (3, 0, (3, 0)),
        (None, 1, (1, 1)),
        (None, 8, (8, 8)),
        (2, 8, (2, 8)),
        (1, 8, (1, 8)),
    ],
)
def test_all_visible_gpus_are_used_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, requested: int | None, gpus: int, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(launch, "visible_gpus", lambda: gpus)
    assert launch.resolve_processes(requested) == expected


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "visible_gpus", lambda: 2)
    with pytest.raises(UsageError, match="--num-processes 3 needs as many GPUs, 2 are") as caught:
        launch.resolve_processes(3)
    assert caught.value.exit_code == EXIT_USAGE
    assert "CUDA_VISIBLE_DEVICES" in (caught.value.hint or "")


def test_a_launched_process_takes_the_launcher_s_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "visible_gpus", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert launch.resolve_processes(3) == (16, 2)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A gloo group of one, as torchrun would start it."""
    from torch import distributed

    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("code", [0, 130])
def test_cpu_processes_end_without_tearing_gloo_down(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    launch.leave(code)
    assert codes[:1] == [code]


@pytest.mark.usefixtures("group")
def test_gpu_processes_leave_their_group_after_success(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import distributed

    monkeypatch.setattr(distributed, "get_backend", lambda: "nccl")
    launch.leave(1)
    assert distributed.is_initialized()
    launch.leave(0)
    assert not distributed.is_initialized()
    launch.leave(0)


@pytest.mark.usefixtures("group")
def test_a_group_that_no_launcher_made_is_not_ours_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setattr(os, "_exit", pytest.fail)
    launch.leave(0)


def test_the_exit_code_of_the_processes_is_passed_on() -> None:
    for code in (0, 1, 3):
        assert launch.run([sys.executable, "-c", f"raise SystemExit({code})"]) == code


def test_processes_do_not_fight_for_cores(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    show = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    assert launch.run(show) == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert launch.run(show) == 0
    assert capfd.readouterr().out == "1\n7\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_processes_as_sigterm_and_the_code_says_interrupted(
    tmp_path: Path, number: signal.Signals
) -> None:
    child = """
import pathlib, signal, sys, time
def end(number, frame):
    pathlib.Path(sys.argv[1], "got").write_text(str(int(number)))
    sys.exit(5)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path(sys.argv[1], "ready").touch()
time.sleep(30)
"""
    parent = "import sys; from tabom_cli.core import launch; sys.exit(launch.run(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", parent, sys.executable, "-c", child, str(tmp_path)],
        start_new_session=True,
    )
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, number)
    assert process.wait(timeout=20) == 130
    assert (tmp_path / "got").read_text() == str(int(signal.SIGTERM))
