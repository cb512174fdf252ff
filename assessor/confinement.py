"""What keeps a process that opens a stranger's file from everything else: limits, no network, no files, no programs.

Only the standard library is used here: a process is confined before it has threads, and before it loads a library that
might start some. Linux alone has these means; what a kernel lacks is not in force, and `confine` says what is.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

OPEN_FILES = 512
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 1, 22, 38, 2  # linux/prctl.h
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's system calls, the same on every architecture
READ_FILE, READ_DIR, WRITE_FILE = 1 << 2, 1 << 3, 1 << 1  # linux/landlock.h
EPERM = 1
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/proc/self", "/proc/cpuinfo",
          "/proc/meminfo", "/sys/devices/system", "/sys/fs/cgroup", "/dev/urandom", "/dev/zero")  # fmt: skip
"""What libraries read of a system when they start."""


class Calls(NamedTuple):
    """An architecture in the kernel's words: its number, and those of the system calls that are refused."""

    architecture: int
    refused: tuple[int, ...]


CALLS = {
    # socket, connect, sendto, ptrace, execve, execveat, kill, tkill, tgkill, process_vm_readv, process_vm_writev, bpf,
    # userfaultfd, keyctl, unshare, setns, mount, io_uring_setup, pidfd_getfd
    "x86_64": Calls(0xC000003E, (41, 42, 44, 101, 59, 322, 62, 200, 234, 310, 311, 321, 323, 250, 272, 308, 165, 425,
                                 438)),
    "aarch64": Calls(0xC00000B7, (198, 203, 206, 117, 221, 281, 129, 130, 131, 270, 271, 280, 282, 219, 97, 268, 40,
                                  425, 438)),
}  # fmt: skip


def confine(readable: Iterable[Path], *, memory: int) -> tuple[str, ...]:
    """Confine this process, for good, and all threads and children it will have.

    Args:
        readable: Files that it may read besides Python, its packages and the system's libraries.
        memory: Bytes of address space.

    Returns:
        What is in force: "limits", "network" (a network of its own without any device), "files" (Landlock: nothing
        else can be read, nothing written), "calls" (seccomp: no socket, no program, no other process).
    """
    for limit, wanted in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(limit, (value, value))
    if not sys.platform.startswith("linux"):
        return ("limits",)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # it ends with its parent
    network = _own_network(libc)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return ("limits", *(["network"] if network else []))
    inside = [*map(Path, SYSTEM), Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent]
    inside += [Path(entry) for entry in sys.path if entry]
    files = _only_files(libc, [*inside, *readable])
    calls = _refuse_calls(libc)
    named = {"limits": True, "network": network, "files": files, "calls": calls}
    return tuple(name for name, there in named.items() if there)


def is_without_network(in_force: Iterable[str]) -> bool:
    """Whether one of the measures in force keeps a process from the network."""
    return bool({"network", "calls"} & set(in_force))


def _own_network(libc: ctypes.CDLL) -> bool:
    """A network namespace of its own; for a user without rights inside a user namespace."""
    return bool(libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)


def _only_files(libc: ctypes.CDLL, readable: Iterable[Path]) -> bool:
    """Nothing but these can be opened from now on, and only for reading; see landlock(7)."""
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    accesses = (1 << (13 + min(version - 1, 2) + (version >= 5))) - 1
    attributes = struct.pack("=QQQ", accesses, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    for path in readable:
        if path.exists():
            _allow(libc, ruleset, path, READ_FILE | READ_DIR if path.is_dir() else READ_FILE)
    if Path("/dev/null").exists():
        _allow(libc, ruleset, Path("/dev/null"), READ_FILE | WRITE_FILE)
    done = libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(done)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        libc.syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", access, descriptor), 0)
    finally:
        os.close(descriptor)


def _refuse_calls(libc: ctypes.CDLL) -> bool:
    """System calls for sockets, programs and other processes fail from now on; see seccomp(2)."""
    calls = CALLS.get(platform.machine())
    if calls is None:
        return False
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06  # BPF: load a word, jump if equal, if not less, return
    kill, allow, refuse = 0x80000000, 0x7FFF0000, 0x00050000 | EPERM
    last = len(calls.refused) + 1
    program = [(load, 0, 0, 4), (equal, 1, 0, calls.architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    program.append((at_least, last, 0, 0x40000000))  # the x32 calls of x86_64
    program += [(equal, last - place, 0, number) for place, number in enumerate(calls.refused, start=1)]
    program += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    content = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    head = struct.pack("@HP", len(program), ctypes.addressof(content))
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(head), 0, 0) == 0)
