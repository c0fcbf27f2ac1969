"""Serial ports of this machine."""

from glob import glob

PATTERNS = ("/dev/ttyACM*", "/dev/ttyUSB*", "/dev/tty.usb*")
"""Names of USB serial ports on Linux and macOS."""


def serial_ports() -> list[str]:
    """Paths of the USB serial ports that are here."""
    return sorted(path for pattern in PATTERNS for path in glob(pattern))
