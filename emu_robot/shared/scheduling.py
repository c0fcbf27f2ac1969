"""Keeps libraries from giving this process real-time priority.

The AV1 encoder (SVT-AV1, LeRobot's default) puts the calling thread and its own into SCHED_FIFO with priority 99, where
it is permitted, as for root in a container. All that the process then does, also what it starts, goes before everything
else on the machine: before the safety gate, too. On two cores other programs stood still for minutes.
"""

import ctypes
import sys

CAP_SYS_NICE = 23
"""The Linux capability (capability.h) by which a thread may raise priorities."""
_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def forbid_realtime() -> None:
    """From now on this thread, and threads that it starts, may not raise priorities. Programs that it starts may.

    Call it before other threads begin. Does nothing where it is not permitted anyway, or not on Linux.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), ctypes.byref(sets)) == 0:
        sets[0].effective &= ~(1 << CAP_SYS_NICE)
        libc.capset(ctypes.byref(header), ctypes.byref(sets))
