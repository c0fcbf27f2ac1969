"""A page of the arm without a browser: it speaks viser's protocol over one websocket, and pulses over another."""

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import viser
import zstandard
from websockets import Origin, Subprotocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PULSE_EVERY_S = 0.05
CAMERA = {
    **{"type": "ViewerCameraMessage", "wxyz": (1, 0, 0, 0), "position": (1, 0, 1), "fov": 1.0, "near": 0.1, "far": 9.0},
    **{"image_height": 9, "image_width": 9, "look_at": (0, 0, 0), "up_direction": (0, 0, 1)},
}


class ViserPage:
    """An open page. held: whether its pulses say that a finger is down; silent: whether it has frozen."""

    def __init__(self, url: str, origin: str | None = None) -> None:
        """url: of the main page. origin: what the page says of where it is from; None for the truth."""
        base = url.partition("?")[0].rstrip("/")
        sockets, key = base.replace("http", "ws", 1), secrets.token_hex(16)
        said = Origin(origin or base)
        self._viser = connect(
            f"{sockets}/viser/{key}", origin=said, subprotocols=[Subprotocol(f"viser-v{viser.__version__}")]
        )
        self._pulse = connect(f"{sockets}/pulse/{key}", origin=said)
        self.held = self.grips = self.home = self.silent = False
        self.status: dict[str, Any] = {}
        self.messages: list[dict[str, Any]] = []
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._read, self._listen, self._beat)]
        for thread in self._threads:
            thread.start()
        self.say(CAMERA)
        self.wait(lambda: self.of_type("TransformControlsMessage"))
        self._owner = self.of_type("TransformControlsMessage")[-1]["owner"]

    def say(self, message: dict[str, Any]) -> None:
        """Send a message of viser's client."""
        self._viser.send(msgspec.msgpack.encode(message))

    def order(self, kind: str) -> None:
        """Give an order as a key does."""
        self._pulse.send(json.dumps({"order": kind}))

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Messages of a type that came from viser."""
        return [message for message in list(self.messages) if message["type"] == kind]

    def grab(self) -> None:
        """Put the finger down on the handle."""
        self.held = True
        self.beat()
        self.say({"type": "TransformControlsDragStartMessage", "name": "/handle", "owner": self._owner})

    def drag(self, position: Any, wxyz: Any = (0.0, 1.0, 0.0, 0.0)) -> None:
        """Drag the handle to a place."""
        numbers = {"position": [float(x) for x in position], "wxyz": [float(x) for x in wxyz]}
        self.say({"type": "TransformControlsUpdateMessage", "name": "/handle", "owner": self._owner, **numbers})

    def let_go(self) -> None:
        """Lift the finger."""
        self.held = False
        self.beat()
        self.say({"type": "TransformControlsDragEndMessage", "name": "/handle", "owner": self._owner})

    def controls(self, label: str) -> list[dict[str, Any]]:
        """The controls of the panel with this label."""
        return [m for m in list(self.messages) if m["type"].startswith("Gui") and _label(m) == label]

    def control(self, label: str) -> dict[str, Any]:
        """The newest one of them."""
        found = self.controls(label)
        assert found, label
        return found[-1]

    def click(self, label: str, option: str) -> None:
        """Click a button of a row, or choose or type something."""
        self.say({"type": "GuiUpdateMessage", "uuid": self.control(label)["uuid"], "updates": {"value": option}})

    def beat(self) -> None:
        """Send a pulse."""
        with contextlib.suppress(ConnectionClosed):
            self._pulse.send(json.dumps({"held": self.held, "grips": self.grips, "home": self.home, "n": 1}))

    def wait(self, until: Any, seconds: float = 20.0) -> None:
        """Wait until something is so."""
        begun = time.monotonic()
        while not until():
            assert time.monotonic() - begun < seconds, self.status
            time.sleep(0.01)

    def close(self) -> None:
        """Close the tab."""
        self._ends.set()
        self._viser.close()
        self._pulse.close()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            for data in self._viser:
                assert isinstance(data, bytes)
                size = int.from_bytes(data[8:16], "little")
                told = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + size]))
                self.messages.extend(told["messages"])

    def _listen(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            for text in self._pulse:
                self.status = json.loads(text)

    def _beat(self) -> None:
        while not self._ends.wait(PULSE_EVERY_S):
            if not self.silent:
                self.beat()


@contextlib.contextmanager
def viser_page(url: str) -> Iterator[ViserPage]:
    """A page that is closed at the end."""
    page = ViserPage(url)
    try:
        yield page
    finally:
        page.close()


def _label(message: dict[str, Any]) -> object:
    props = message.get("props")
    return props.get("label") if isinstance(props, dict) else None
