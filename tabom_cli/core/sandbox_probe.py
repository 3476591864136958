"""Whether the sandbox holds on this machine: a program that tries to get out, and what it must report.

Knows the escapes that a badly flagged sandbox allows; does not start it itself.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable

_PROBE = """
import ctypes, json, os, socket

libc = ctypes.CDLL(None, use_errno=True)
report = {}
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
report["capabilities"] = int(status["CapEff"], 16) | int(status["CapPrm"], 16)
MS_REMOUNT_BIND = 32 | 4096
report["remounted"] = libc.mount(None, b"/usr", None, MS_REMOUNT_BIND, None) == 0
report["unmounted"] = libc.umount2(b"/usr", 2) == 0
report["environment"] = sorted(set(os.environ) - {"PATH", "PWD", "LC_CTYPE"})
try:
    open(SENTINEL)
    report["read_host"] = True
except OSError:
    report["read_host"] = False
try:
    os.close(os.open("/usr/.tabom-probe", os.O_CREAT | os.O_WRONLY))
    report["wrote_usr"] = True
except OSError:
    report["wrote_usr"] = False
try:
    socket.create_connection(("127.0.0.1", PORT), timeout=1)
    report["connected"] = True
except OSError:
    report["connected"] = False
children = []
try:
    while len(children) < 64:
        child = os.fork()
        if child == 0:
            os.read(os.pipe()[0], 1)
        children.append(child)
except OSError:
    pass
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
report["children"] = len(children)
report["processes"] = sum(name.isdigit() for name in os.listdir("/proc"))
report["nested"] = libc.unshare(0x10000000) == 0
print(json.dumps(report))
"""


def judge_probe(run: Callable[[str], tuple[str, str]]) -> str | None:
    """None when the probe could do none of the things it tried, else what went wrong.

    Args:
        run: Runs a program in the sandbox; returns its status and its output.
    """
    with tempfile.NamedTemporaryFile(prefix="tabom-probe-") as sentinel, socket.socket() as server:
        os.chmod(sentinel.name, 0o644)
        server.bind(("127.0.0.1", 0))
        server.listen()
        header = f"SENTINEL = {sentinel.name!r}\nPORT = {server.getsockname()[1]}\n"
        status, output = run(header + _PROBE)
    if status != "ok":
        return f"the probe ended as {status}: {output.strip()[-300:]}"
    report = json.loads(output)
    held = {
        "capabilities": report["capabilities"] == 0,
        "environment": report["environment"] == [],
        "children": report["children"] < 64,
        "processes": report["processes"] < 8,
    }
    attempts = ("remounted", "unmounted", "read_host", "wrote_usr", "connected", "nested")
    held |= {name: report[name] is False for name in attempts}
    leaks = [f"{name}={report[name]}" for name, is_held in held.items() if not is_held]
    return f"the probe got out: {', '.join(leaks)}" if leaks else None
