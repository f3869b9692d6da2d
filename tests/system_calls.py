"""A command under watch: its changes of a folder are counted, and a fault comes with one of them.

Between two changes all that a kill can leave behind is the same. So it leaves the state before one
of them, or the middle of a write, and points drawn from their number are spread over all such
states: not over seconds of imports and compilation, and not where somebody thought of a fault. They
are the same on a slow machine. Changes are system calls of all threads and child processes, be they
Python's or a library's, that the kernel shows to another process (seccomp's user notification,
Linux from 5.19 on); that one may let them be, refuse them with an error, or end the program.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import platform
import select
import signal
import socket
import struct
import traceback

# Of x86-64: number -> the argument that is a file descriptor.
_ON_FILES = {1: 0, 18: 0, 20: 0, 40: 0, 77: 0, 285: 0, 296: 0, 326: 2, 328: 0}
# Number -> the arguments that are a folder's descriptor (None: the working folder) and a path.
_ON_PATHS = {
    76: (None, 0), 82: (None, 1), 83: (None, 0), 84: (None, 0), 85: (None, 0), 86: (None, 1),
    87: (None, 0), 88: (None, 1), 258: (0, 1), 263: (0, 1), 264: (2, 3), 265: (2, 3), 266: (1, 2),
    316: (2, 3), 2: (None, 0), 257: (0, 1),
}  # fmt: skip
_FLAGS = {2: 1, 257: 2}  # open and openat: the argument that says whether it changes anything
_WRITES = {1: None, 18: 3}  # write and pwrite: the argument that is the offset
# rename, rmdir, unlink and their kin need no space; a truncation gives some back.
_NEED_SPACE = {1, 18, 20, 40, 83, 85, 88, 258, 266, 285, 296, 326, 328, 2, 257}
_NOTIFY, _ALLOW = 0x7FC00000, 0x7FFF0000
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1


class Watch:
    """Counts changes below a folder, and does something at one of them.

    Args:
      root: the folder, an absolute path.
      at: number of the change, from 1; 0: none.
      kill: share of a write that is done before all processes are killed with signal 9; other
        changes are not done. None: nothing is killed.
      error: name of what this change and all after it are refused with; ENOSPC spares those that
        need no space. "": none.
      pause: called before the change is done.

    Attributes:
      count: changes so far.
    """

    def __init__(self, root, at=0, kill=None, error="", pause=None):
        self.root, self.at, self.kill, self.pause = os.path.realpath(root), at, kill, pause
        self.error, self.count = getattr(errno, error) if error else 0, 0

    def follow(self, connection, pid) -> None:
        """Returns when a process that called `begin`, the leader of its session, and all of its
        children have ended.

        Args:
          connection: the socket that `begin` was given the other end of.
          pid: of the process.
        """
        _, (listener,), _, _ = socket.recv_fds(connection, 1, 1)
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while poll.poll()[0][1] & select.POLLIN:
            note = bytearray(80)
            with contextlib.suppress(FileNotFoundError):  # who asked is no more
                fcntl.ioctl(listener, _RECEIVE, note)
                number, thread, _, call, _, _, *arguments = struct.unpack("=QIIiIQ6Q", note)
                refused = self._refused(pid, thread, call, arguments)
                answer = number, 0, -refused, 0 if refused else _CONTINUE
                fcntl.ioctl(listener, _SEND, struct.pack("=QqiI", *answer))
        os.close(listener)

    def _refused(self, pid, thread, call, arguments):
        """The error of a system call; 0 lets it be done."""
        try:
            if not self._changes(thread, call, arguments):
                return 0
        except OSError:  # the process or the file is gone
            return 0
        self.count += 1
        if self.count == self.at and self.kill is not None:
            if call in _WRITES:
                _write_part(thread, call, arguments, self.kill)
            os.killpg(pid, signal.SIGKILL)
            return errno.EINTR  # it may hear of this before it ends
        if self.count == self.at and self.pause:
            self.pause()
        full = self.error == errno.ENOSPC and call not in _NEED_SPACE
        return 0 if not self.error or self.count < self.at or full else self.error

    def _changes(self, thread, call, arguments):
        if call in _ON_FILES:
            path = os.readlink(f"/proc/{thread}/fd/{arguments[_ON_FILES[call]]}")
            return self._is_below(path)
        folder, at = _ON_PATHS[call]
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            path = os.fsdecode(_text(memory, arguments[at]))
        here = ctypes.c_int32(-100 if folder is None else arguments[folder]).value
        here = os.readlink(f"/proc/{thread}/{'cwd' if here == -100 else f'fd/{here}'}")
        path = os.path.join(here, path)
        if call in _FLAGS and not arguments[_FLAGS[call]] & os.O_TRUNC and os.path.lexists(path):
            return False  # it is opened, and no more
        return self._is_below(path)

    def _is_below(self, path):
        return os.path.normpath(path).startswith(self.root + os.sep)


def _text(memory, address):
    """The bytes up to a zero; the page after the text may be none."""
    found = b""
    while b"\0" not in found:
        found += os.pread(memory.fileno(), 4096 - address % 4096, address)
        address += 4096 - address % 4096
    return found[: found.index(b"\0")]


def _write_part(thread, call, arguments, share):
    """Does the first part of what a process is about to write."""
    file, address, size = arguments[:3]
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        data = os.pread(memory.fileno(), int(share * size), address)
    with open(f"/proc/{thread}/fdinfo/{file}") as f:
        facts = dict(line.split(":", 1) for line in f)
    written = os.open(f"/proc/{thread}/fd/{file}", os.O_WRONLY)
    offset = int(facts["pos"]) if _WRITES[call] is None else arguments[_WRITES[call]]
    if int(facts["flags"], 8) & os.O_APPEND:
        offset = os.fstat(written).st_size
    os.pwrite(written, data, offset)
    os.close(written)


def begin(connection) -> None:
    """From now on this process, the leader of a new session, and its children are under watch.

    Args:
      connection: a socket, whose other end `Watch.follow` has.

    Raises:
      OSError: the system knows no such thing.
    """
    os.setsid()
    step = functools.partial(struct.pack, "HBBI")
    load, equal, any_bit, end = 0x20, 0x15, 0x45, 0x06
    filters = [step(load, 0, 0, 4), step(equal, 1, 0, 0xC000003E), step(end, 0, 0, _ALLOW)]
    filters += [step(load, 0, 0, 0)]
    for number in _ON_FILES | _ON_PATHS:
        if number in _FLAGS:
            filters += [
                step(equal, 0, 4, number), step(load, 0, 0, 16 + 8 * _FLAGS[number]),
                step(any_bit, 0, 1, os.O_CREAT | os.O_TRUNC),
            ]  # fmt: skip
            filters += [step(end, 0, 0, _NOTIFY), step(end, 0, 0, _ALLOW)]
        else:
            filters += [step(equal, 0, 1, number), step(end, 0, 0, _NOTIFY)]
    filters += [step(end, 0, 0, _ALLOW)]

    class Program(ctypes.Structure):
        _fields_ = [("size", ctypes.c_ushort), ("filters", ctypes.c_char_p)]

    program, libc = Program(len(filters), b"".join(filters)), ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # what it starts gets no more rights: else none but root may do this
    listener = libc.syscall(317, 1, 8 | 32, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    socket.send_fds(connection, [b" "], [listener])
    os.close(listener)
    connection.close()


@functools.cache
def available() -> bool:
    """Whether commands can be watched here."""
    if platform.machine() != "x86_64" or not os.path.exists("/proc/sys/kernel/seccomp"):
        return False
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            begin(theirs)
            os._exit(0)
        except OSError:
            traceback.print_exc()
        finally:
            os._exit(1)
    theirs.close()
    code = os.waitpid(pid, 0)[1]
    ours.close()
    return code == 0
