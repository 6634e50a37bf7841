"""What keeps a stranger's notebook from doing harm, put up by the process that runs it before it runs.

Two kinds of fences. Linux itself refuses what Landlock and an empty network namespace can refuse, whatever the language
the code is written in: writing outside one folder, starting programs, reaching a network, signals to other processes.
On every system Python's audit hook refuses the same to ordinary Python code, with a sentence; code that sets out to get
around Python can get around it. Neither is a prison: what may be read can be read, and a kernel has faults. Whoever expects
attackers grades in a container or on a machine that holds nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_GIB = 2**30
_ROOM = 16  # GiB of addresses for shared libraries, which are mapped and hardly used
_LARGEST_FILE = _GIB
_OPEN_FILES = 512

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES = 1, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WRITE_FILE = 1 << 1
_CHANGES = sum(1 << bit for bit in (0, 1, *range(4, 13)))  # execute, write, remove and make anything
_SINCE = {2: 1 << 13, 3: 1 << 14}  # moving between folders and truncating, by the version that knows them

_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn")
_PROCESSES += ("os.startfile", "pty.spawn", "os.kill", "os.killpg", "signal.pthread_kill")
_NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo")
_NETWORK += ("socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
_ONE_PATH = ("os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.utime")
_ONE_PATH += ("os.setxattr", "os.removexattr")
_TWO_PATHS = ("os.rename", "os.link", "os.symlink")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def put_up(folder: Path, seconds: float, memory: float, secret: Path, readable: Sequence[str]) -> list[str]:
    """Fence this process in, for good; call it before anything starts a thread.

    Args:
        folder: the one folder that may be written to.
        seconds: of processor time.
        memory: GiB of data.
        secret: a folder that Python's `open` refuses to read from.
        readable: folders that may be read although they lie in `secret`.

    Returns:
        What the system itself holds: "network" and "files", or fewer.
    """
    _limit(seconds, memory)
    held = []
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None, use_errno=True)
            libc.prctl(_DIE_WITH_PARENT, 9, 0, 0, 0)
            if libc.unshare(_NEW_USER | _NEW_NETWORK) == 0:
                held.append("network")
            if _landlock(libc, folder):
                held.append("files")
    _hook(folder, secret, readable, files="files" not in held)
    return held


def _limit(seconds: float, memory: float) -> None:
    try:
        import resource
    except ModuleNotFoundError:  # a system without such limits
        return
    data = int(memory * _GIB)
    limits = [
        ("RLIMIT_CPU", int(seconds) + 5),
        ("RLIMIT_DATA", data),
        ("RLIMIT_AS", data + _ROOM * _GIB),
        ("RLIMIT_FSIZE", _LARGEST_FILE),
        ("RLIMIT_NOFILE", _OPEN_FILES),
        ("RLIMIT_CORE", 0),
    ]
    for name, limit in limits:
        with contextlib.suppress(AttributeError, ValueError, OSError):  # not every system has every limit
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (limit, limit))


def _landlock(libc: Any, folder: Path) -> bool:
    """Refuse changes outside `folder`, programs, TCP and signals to others, where the kernel can."""
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    handled = _CHANGES | sum(bit for since, bit in _SINCE.items() if version >= since)
    fields = [handled, *([0b11] if version >= 4 else []), *([0b11] if version >= 6 else [])]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for path, allowed in ((str(folder), handled & ~1), (os.devnull, _WRITE_FILE)):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                if libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, place), 0):
                    return False
            finally:
                os.close(place)
        return libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _hook(folder: Path, secret: Path, readable: Sequence[str], *, files: bool) -> None:
    """Have Python refuse: processes, the network, reading in `secret`, and with `files` changes outside `folder`."""
    inside, hidden = os.path.realpath(folder), os.path.realpath(secret)
    real, join, null = os.path.realpath, os.path.join, os.devnull

    def within(path: str, place: str) -> bool:
        return path == place or path.startswith(join(place, ""))

    shown = [place for place in map(real, readable) if within(place, hidden) and place != hidden]

    def check_change(path: Any, descriptor: Any = -1) -> None:
        if isinstance(path, int):
            return
        if descriptor not in (-1, None) or not (os.fsdecode(path) == null or within(real(os.fsdecode(path)), inside)):
            raise PermissionError(f"nothing outside the notebook's folder is changed while it is graded: {path!r}")

    def check_reading(path: Any) -> None:
        if not isinstance(path, int) and within(where := real(os.fsdecode(path)), hidden):
            if not any(within(where, place) for place in shown):
                raise PermissionError(f"the folder that is graded is not read: {path!r}")

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            if path is not None:
                check_reading(path)
                if files and ((flags or 0) & _WRITING or set(mode or "") & set("wax+")):
                    check_change(path)
        elif event in _PROCESSES:
            raise PermissionError("no other program is started, and none is ended, while a notebook is graded")
        elif event in _NETWORK:
            raise PermissionError("there is no network while a notebook is graded")
        elif files and event in _ONE_PATH:
            check_change(arguments[0], arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1)
        elif files and event in _TWO_PATHS:
            for path in arguments[:2]:
                check_change(path)

    sys.addaudithook(hook)
