"""The C library hidapi as easyhid calls it, with one SpaceMouse whose reports a test writes."""

import struct
from collections import deque
from typing import Any

VENDOR, PRODUCT = 0x256F, 0xC635  # SpaceMouse Compact


class FakeHidapi:
    """Functions of the C library that easyhid uses. present: whether the device is plugged in."""

    def __init__(self, ffi: Any) -> None:
        self._ffi, self._kept = ffi, []
        self.present = True
        self.reports: deque[bytes] = deque()

    def move(self, **axes: int) -> None:
        """The cap's deflection as the device sends it: x right, y to the user, z down; -350 to 350."""
        place, turn = [[axes.get(name, 0) for name in names] for names in (("x", "y", "z"), ("rx", "ry", "rz"))]
        self.reports += [struct.pack("<B3h", 1, *place), struct.pack("<B3h", 2, *turn)]

    def press(self, *, left: bool = False, right: bool = False) -> None:
        """The buttons, in their report."""
        self.reports.append(struct.pack("<BH", 3, left | right << 1))

    def hid_enumerate(self, vendor: int, product: int) -> Any:
        if not self.present:
            return self._ffi.NULL
        info = self._ffi.new("struct hid_device_info*")
        path = self._ffi.new("char[]", b"/dev/hidraw7")
        name = self._ffi.new("wchar_t[]", "SpaceMouse Compact")
        self._kept += [info, path, name]
        info.path, info.product_string, info.manufacturer_string, info.serial_number = path, name, name, name
        info.vendor_id, info.product_id, info.next = VENDOR, PRODUCT, self._ffi.NULL
        return info

    def hid_free_enumeration(self, devices: Any) -> None:
        pass

    def hid_open_path(self, path: bytes) -> Any:
        return 1

    def hid_close(self, device: Any) -> None:
        pass

    def hid_set_nonblocking(self, device: Any, nonblocking: int) -> int:
        return 0

    def hid_read(self, device: Any, data: Any, length: int) -> int:
        if not self.present:
            return -1
        if not self.reports:
            return 0
        report = self.reports.popleft()[:length]
        self._ffi.buffer(data)[: len(report)] = report
        return len(report)
