"""Programs that try to get out of the sandbox, or to use more than they may.

Each is the body of a program that starts with `_HEADER` (names of host things it must not reach). It
prints ESCAPED when an attempt worked. Beside it stand the ways in which it may end.
"""

from __future__ import annotations

HEADER = """
import ctypes, os, resource, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try:
        worked = action()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        print("held", error)
        return
    print("ESCAPED" if worked is None or worked else "held", worked)
def written(path, flags=os.O_WRONLY):
    number = os.open(path, flags, 0o666)
    os.write(number, b"owned")
def command(*words):
    return subprocess.run(words, capture_output=True, timeout=5).returncode == 0
"""

ENDS = ("ok", "failed", "timeout", "memory", "output", "killed")

# name -> (ways to end, source)
PROGRAMS: dict[str, tuple[tuple[str, ...], str]] = {
    # --- getting at the host's files
    "remount_usr_read_write": (
        ("ok",),
        "attempt(lambda: libc.mount(None, b'/usr', None, 32 | 4096, None) == 0)\n"
        "attempt(lambda: written('/usr/owned', os.O_WRONLY | os.O_CREAT))",
    ),
    "remount_base_read_write": (
        ("ok",),
        "attempt(lambda: libc.mount(None, BASE.encode(), None, 32 | 4096, None) == 0)\n"
        "attempt(lambda: written(BASE + '/owned', os.O_WRONLY | os.O_CREAT))",
    ),
    "remount_root": (
        ("ok",),
        "attempt(lambda: libc.mount(None, b'/', None, 32, None) == 0)\n"
        "attempt(lambda: libc.mount(b'none', b'/', None, 1 << 18, None) == 0)",
    ),
    "unmount_everything": (
        ("ok",),
        "for path in (b'/usr', b'/proc', b'/dev', b'/dev/shm', b'/tmp', b'/'):\n"
        "    attempt(lambda: libc.umount2(path, 2) == 0)",
    ),
    "mount_a_new_proc_and_tmpfs": (
        ("ok",),
        "attempt(lambda: libc.mount(b'proc', b'/tmp', b'proc', 0, None) == 0)\n"
        "attempt(lambda: libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None) == 0)",
    ),
    "read_host_file": (("ok",), "attempt(lambda: open(SENTINEL).read())"),
    "write_host_file": (("ok",), "attempt(lambda: written(SENTINEL))"),
    "read_host_file_through_init_root": (
        ("ok",),
        "attempt(lambda: open('/proc/1/root' + SENTINEL).read())\n"
        "attempt(lambda: open('/proc/1/cwd/../' + SENTINEL).read())",
    ),
    "read_shadow_and_passwd": (
        ("ok",),
        "attempt(lambda: open('/etc/shadow').read())\nattempt(lambda: open('/etc/passwd').read())",
    ),
    "read_the_repository": (
        ("ok",),
        "attempt(lambda: open(REPOSITORY + '/pyproject.toml').read())",
    ),
    "read_home_secrets": (
        ("ok",),
        "for name in ('.ssh', '.bash_history', '.netrc', '.cache', '.config'):\n"
        "    attempt(lambda: os.listdir(os.path.join(HOME, name)) if HOME != '/' else False)",
    ),
    "symlink_to_host_file": (
        ("ok",),
        "os.symlink(SENTINEL, '/tmp/link')\nattempt(lambda: written('/tmp/link'))\n"
        "os.symlink('/proc/1/root', '/tmp/root')\nattempt(lambda: open('/tmp/root' + SENTINEL))",
    ),
    "hard_link_to_system_file": (
        ("ok",),
        "attempt(lambda: os.link('/usr/bin/env', '/tmp/env'))\n"
        "attempt(lambda: os.link('/usr/bin/env', '/usr/bin/env2'))",
    ),
    "write_outside_tmp": (
        ("ok",),
        "for path in ('/usr/lib/x', '/bin/x', '/dev/x', '/proc/x', BASE + '/x', '/usr/bin/env'):\n"
        "    attempt(lambda: written(path, os.O_WRONLY | os.O_CREAT))",
    ),
    "climb_out_by_chroot": (
        ("ok",),
        "os.mkdir('/tmp/jail')\nattempt(lambda: os.chroot('/tmp/jail'))\n"
        "attempt(lambda: libc.pivot_root(b'/tmp', b'/tmp/jail') == 0 if "
        "hasattr(libc, 'pivot_root') else False)",
    ),
    "inherited_descriptors": (
        ("ok",),
        "def usable(number):\n    os.fstat(number)\n    return True\n"
        "for number in range(3, 64):\n    attempt(lambda: usable(number))",
    ),
    "directory_handle_escape": (
        ("ok",),
        "handle = os.open('/', os.O_RDONLY)\n"
        "attempt(lambda: os.open('../../../..' + SENTINEL, os.O_RDONLY, dir_fd=handle))",
    ),
    # --- users, namespaces, kernel
    "nested_user_namespace": (("ok",), "attempt(lambda: libc.unshare(0x10000000) == 0)"),
    "nested_mount_namespace": (("ok",), "attempt(lambda: libc.unshare(0x00020000) == 0)"),
    "nested_bubblewrap_and_unshare": (
        ("ok",),
        "attempt(lambda: command('unshare', '-Ur', 'true'))\n"
        "attempt(lambda: command('bwrap', '--dev-bind', '/', '/', 'true'))",
    ),
    "join_init_namespaces": (
        ("ok",),
        "for name in ('user', 'mnt', 'net', 'pid'):\n"
        "    attempt(lambda: libc.setns(os.open('/proc/1/ns/' + name, os.O_RDONLY), 0) == 0)",
    ),
    "become_root": (
        ("ok",),
        "attempt(lambda: os.setuid(0))\nattempt(lambda: os.setresuid(0, 0, 0))\n"
        "attempt(lambda: os.setgid(0))\nattempt(lambda: os.setgroups([0]))",
    ),
    "setuid_binaries": (
        ("ok",),
        "for words in (('su', '-c', 'true'), ('sudo', '-n', 'true'), ('mount', '-o', "
        "'remount,rw', '/usr')):\n    attempt(lambda: command(*words))",
    ),
    "raise_own_limits": (
        ("ok",),
        "for name in ('NPROC', 'AS', 'FSIZE', 'NOFILE', 'CPU', 'CORE'):\n"
        "    number = getattr(resource, 'RLIMIT_' + name)\n"
        "    attempt(lambda: resource.setrlimit(number, (2**40, 2**40)))",
    ),
    "write_kernel_settings": (
        ("ok",),
        "for name in ('sys/kernel/core_pattern', 'sysrq-trigger', 'sys/vm/drop_caches',\n"
        "             'sys/user/max_user_namespaces', 'sys/kernel/hostname'):\n"
        "    attempt(lambda: written('/proc/' + name))",
    ),
    "rewrite_identity_maps": (
        ("ok",),
        "attempt(lambda: written('/proc/self/uid_map'))\n"
        "attempt(lambda: written('/proc/1/oom_score_adj'))",
    ),
    "devices": (
        ("ok",),
        "for name in ('mem', 'kmsg', 'sda', 'vda', 'kvm', 'fuse'):\n"
        "    attempt(lambda: os.open('/dev/' + name, os.O_RDWR))\n"
        "attempt(lambda: os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0)))",
    ),
    "key_ring": (
        ("ok",),
        "attempt(lambda: libc.syscall(250, 0, -3, 1) >= 0 if os.uname().machine == 'x86_64' "
        "else False)",
    ),
    "trace_another_process": (
        ("ok",),
        "attempt(lambda: libc.ptrace(16, 1, 0, 0) == 0)\n"
        "attempt(lambda: libc.ptrace(16, PARENT, 0, 0) == 0)\n"
        "attempt(lambda: os.open(f'/proc/{PARENT}/mem', os.O_RDWR))",
    ),
    # The sandbox's first process belongs to the same user, so its memory can be written: it must be
    # bound by the same limits.
    "take_over_the_first_process": (
        ("ok",),
        "text = open('/proc/1/status').read()\n"
        "attempt(lambda: 'Seccomp:\\t2' not in text or 'NoNewPrivs:\\t1' not in text)\n"
        "attempt(lambda: 'CapEff:\\t0000000000000000' not in text)\n"
        "for number in range(16):\n    if number in (4, 7, 8, 9, 12, 1, 6):\n"
        "        attempt(lambda: resource.prlimit(1, number) != resource.getrlimit(number))",
    ),
    "write_to_descriptors_of_the_first_process": (
        ("ok",),
        "for name in os.listdir('/proc/1/fd'):\n    if int(name) > 2:\n        try:\n"
        "            written(f'/proc/1/fd/{name}')\n        except OSError:\n            pass",
    ),
    # --- signals and other processes
    "kill_the_parent": (
        ("ok", "killed"),
        "attempt(lambda: os.kill(PARENT, 9))\nos.kill(os.getppid(), 9)\nos.kill(1, 9)\n"
        "print('still here')",
    ),
    "kill_everything": (
        ("ok", "killed", "failed"),
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.kill(-1, 9)",
    ),
    "see_host_processes": (
        ("ok",),
        "attempt(lambda: sum(name.isdigit() for name in os.listdir('/proc')) > 4)\n"
        "attempt(lambda: open(f'/proc/{PARENT}/cmdline').read())",
    ),
    "daemon_survivor": (
        ("ok",),
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "        for number in range(3):\n            os.close(number)\n"
        "        os.execv('/usr/bin/sleep', ['sleep', MARK])\n    os._exit(0)",
    ),
    "zombies": (
        ("ok", "failed"),
        "for _ in range(100):\n    if os.fork() == 0:\n        os._exit(0)",
    ),
    "exec_another_program": (("timeout",), "os.execv('/usr/bin/sleep', ['sleep', MARK])"),
    # --- network
    "connect_to_host_port": (
        ("ok",),
        "attempt(lambda: socket.create_connection(('127.0.0.1', PORT), timeout=1))",
    ),
    "connect_to_the_internet": (
        ("ok",),
        "attempt(lambda: socket.create_connection(('192.0.2.1', 80), timeout=1))\n"
        "attempt(lambda: socket.getaddrinfo('example.com', 80))",
    ),
    "abstract_unix_socket": (
        ("ok",),
        "attempt(lambda: socket.socket(socket.AF_UNIX).connect(ABSTRACT))",
    ),
    "raw_socket": (
        ("ok",),
        "attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))\n"
        "attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))",
    ),
    # --- secrets of the parent
    "environment": (
        ("ok",),
        "attempt(lambda: 'TABOM_SECRET' in os.environ or 'HOME' in os.environ)\n"
        "attempt(lambda: any(b'TABOM_SECRET' in open(f'/proc/{n}/environ', 'rb').read() "
        "for n in os.listdir('/proc') if n.isdigit()))",
    ),
    "terminal_injection": (
        ("ok",),
        "import fcntl, termios\nattempt(lambda: os.open('/dev/tty', os.O_RDWR))\n"
        "attempt(lambda: fcntl.ioctl(0, termios.TIOCSTI, b'x'))",
    ),
    # --- floods
    "fork_bomb": (
        ("failed", "timeout", "killed", "ok", "output"),
        "while True:\n    os.fork()",
    ),
    "fork_bomb_that_catches": (
        ("timeout", "memory", "killed"),
        "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    ),
    "count_forks": (
        ("ok",),
        "count = 0\ntry:\n    while count < 100:\n        if os.fork() == 0:\n"
        "            time.sleep(60)\n        count += 1\nexcept OSError:\n    pass\n"
        "attempt(lambda: count > 16)",
    ),
    "thread_bomb": (
        ("failed", "killed", "memory", "timeout"),
        "while True:\n    threading.Thread(target=time.sleep, args=(60,)).start()",
    ),
    "shell_bomb": (
        ("ok", "failed", "timeout"),
        "for _ in range(100):\n    subprocess.Popen(['/usr/bin/sleep', MARK])",
    ),
    "standard_output_flood": (("output",), "while True:\n    print('x' * 65536)"),
    "standard_error_flood": (("output",), "while True:\n    sys.stderr.write('x' * 65536)"),
    "output_flood_by_children": (
        ("output",),
        "for _ in range(4):\n    if os.fork() == 0:\n        while True:\n"
        "            os.write(1, b'x' * 4096)\ntime.sleep(60)",
    ),
    "memory_in_one_block": (("memory",), "block = bytearray(8 * 2**30)"),
    "memory_in_small_blocks": (("memory",), "kept = []\nwhile True:\n    kept.append(' ' * 10**5)"),
    "memory_in_children": (
        ("memory",),
        "for _ in range(8):\n    if os.fork() == 0:\n        block = bytearray(60 * 2**20)\n"
        "        time.sleep(60)\ntime.sleep(60)",
    ),
    "memory_in_shared_mappings": (
        ("memory",),
        "import mmap\nfor _ in range(8):\n    if os.fork() == 0:\n"
        "        block = mmap.mmap(-1, 60 * 2**20)\n        block.write(b'x' * (60 * 2**20))\n"
        "        time.sleep(60)\ntime.sleep(60)",
    ),
    "memory_in_system_v_segments": (
        ("ok",),
        "attempt(lambda: libc.shmget(0, 2**26, 0o1777) >= 0)",
    ),
    "memory_in_anonymous_files": (("ok",), "attempt(lambda: os.memfd_create('block') >= 0)"),
    "disk_fill_one_file": (
        ("failed",),
        "with open('/tmp/big', 'wb') as file:\n    while True:\n        file.write(b'x' * 2**20)",
    ),
    "disk_fill_many_files": (
        ("ok",),
        "count = 0\ntry:\n    while count < 100:\n        open(f'/tmp/{count}', 'wb').write("
        "b'x' * 2**20)\n        count += 1\nexcept OSError:\n    pass\nattempt(lambda: count > 8)",
    ),
    "shared_memory_fill": (
        ("ok",),
        "attempt(lambda: open('/dev/shm/x', 'wb').write(b'x' * 2 * 2**20) and False)\n"
        "attempt(lambda: os.path.getsize('/dev/shm/x') > 2**20)",
    ),
    "sparse_file": (
        ("ok",),
        "number = os.open('/tmp/x', os.O_CREAT | os.O_RDWR)\n"
        "attempt(lambda: os.ftruncate(number, 2**40))",
    ),
    "too_many_open_files": (
        ("failed",),
        "kept = []\nwhile True:\n    kept.append(open('/dev/null'))",
    ),
    # --- time
    "endless_loop": (("timeout",), "while True:\n    pass"),
    "endless_sleep": (("timeout",), "time.sleep(10**6)"),
    "loop_that_ignores_signals": (
        ("timeout",),
        "for number in range(1, 64):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
    ),
    "loop_inside_c_code": (("timeout",), "pow(7, 7 ** 12)"),
    "slow_regular_expression": (("timeout",), "import re\nre.match('(a+)+$', 'a' * 60 + 'b')"),
    "closed_streams_and_on": (
        ("timeout",),
        "for number in range(3):\n    os.close(number)\nwhile True:\n    pass",
    ),
    "waiting_for_input": (("ok",), "attempt(lambda: sys.stdin.read() != '')"),
    # --- crashes
    "deep_recursion": (
        ("failed", "killed", "memory"),
        "sys.setrecursionlimit(10**9)\ndef down(x):\n    return [down(x + 1)]\ndown(0)",
    ),
    "null_pointer": (("killed",), "ctypes.string_at(0)"),
    "abort": (("killed",), "os.abort()"),
    "exit_code_of_a_signal": (("killed", "failed"), "os._exit(137)"),
    "broken_output_encoding": (("ok",), "os.write(1, bytes(range(128, 256)))"),
}

# Answers that fail their test `assert f(2) == 4` and yet try to look as if they had passed: each looks
# for the word that is printed behind the tests. 32 characters is its length.
_FIND = """
import atexit, os, sys
def words(code):
    for part in code.co_consts:
        if isinstance(part, str):
            pieces = part.replace("'", " ").replace("(", " ").replace(")", " ").split()
            yield from (piece for piece in pieces if len(piece) == 32 and piece.isalnum())
        elif hasattr(part, "co_consts"):
            yield from words(part)
def found():
    frame, last = sys._getframe(), ""
    while frame:
        for word in words(frame.f_code):
            last = word
        frame = frame.f_back
    return last
def tell():
    os.write(1, found().encode() + b"\\n")
"""
FORGERIES: dict[str, str] = {
    "exits_before_the_tests": "def f(x): pass\nraise SystemExit",
    "exits_inside_the_tests": "import os\ndef f(x):\n    os._exit(0)",
    "prints_the_last_constant_of_its_own_code": (
        "import sys\ndef f(x): pass\nc = sys._getframe().f_code.co_consts\n"
        "print([s for s in c if isinstance(s, str) and len(s) == 32][-1])\nsys.exit(0)"
    ),
    "prints_the_word_of_a_calling_frame": f"{_FIND}\ndef f(x): pass\ntell()\nos._exit(0)",
    "prints_the_word_when_a_test_calls_it": f"{_FIND}\ndef f(x):\n    tell()\n    os._exit(0)",
    "prints_the_word_at_the_exit": (
        f"{_FIND}\ndef f(x): pass\nword = found()\n"
        "atexit.register(lambda: (os.write(1, word.encode()), os._exit(0)))"
    ),
    "prints_the_word_when_the_test_has_failed": (
        f"{_FIND}\ndef f(x): pass\nword = found()\n"
        "sys.excepthook = lambda *_: (os.write(1, word.encode()), os._exit(0))"
    ),
}
