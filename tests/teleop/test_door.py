"""Who is let in: judged by headers, and over the real server with real requests."""

import asyncio
import json

import httpx
import numpy as np
import pytest
import websockets
from teleop_page import Served

from emu_robot.errors import ConfigError, EmuRobotError, SystemSetupError
from emu_robot.teleop.desk import read_order
from emu_robot.teleop.keys import read_wish, to_base
from emu_robot.teleop.web.door import Door
from emu_robot.teleop.web.messages import read_message
from emu_robot.teleop.web.server import Pages

TOKEN = "a-token-of-ours"
SOCKETS = (f"viser/{'a' * 32}", f"pulse/{'a' * 32}")
"""Websockets of the main page."""


def test_a_host_that_others_reach_needs_a_token() -> None:
    with pytest.raises(ConfigError, match="other machines could drive the arm"):
        Door("0.0.0.0", "")
    with pytest.raises(ConfigError, match="12 at least"):
        Door("0.0.0.0", "short")
    door = Door("0.0.0.0", TOKEN)
    headers = {"host": "robot.lab:8090"}
    assert "token" in door.why_refused(headers, "", {}, socket=False)
    assert "token" in door.why_refused(headers, "token=another", {}, socket=False)
    assert door.why_refused(headers, f"token={TOKEN}", {}, socket=False) == ""
    assert door.why_refused(headers, "", {"emu_robot_teleop": TOKEN}, socket=False) == ""


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8090", "localhost.evil.example", "10.0.0.3:8090", ""])
def test_another_host_is_refused_on_loopback(host: str) -> None:
    assert "not this machine's own" in Door("127.0.0.1", "").why_refused({"host": host}, "", {}, socket=False)


async def _connect(base: str, origin: str | None = None, path: str = "ws") -> str:
    """The state of the gate in the first view that a websocket gets, or the status of its refusal."""
    address = base.replace("http:", "ws:")
    try:
        async with websockets.connect(
            f"{address}/{path}", origin=websockets.Origin(origin) if origin else None
        ) as page:
            while "view" not in (said := json.loads(await page.recv())):
                pass
            return said["view"]["gate"]
    except websockets.InvalidStatus as error:
        return str(error.response.status_code)


def test_requests_of_other_sites_and_without_token_are_refused() -> None:
    served = Served()
    try:
        base = served.url.removesuffix("/")
        assert httpx.get(served.url).status_code == httpx.get(served.pad).status_code == 200
        assert httpx.get(served.url, headers={"host": "evil.example"}).status_code == 403
        assert httpx.get(served.url, headers={"origin": "http://evil.example"}).status_code == 403
        assert asyncio.run(_connect(base, origin=base)) in ("holding", "disarmed")
        assert asyncio.run(_connect(base, origin="http://evil.example")) == "403"
        assert asyncio.run(_connect(base)) == "403"  # no Origin
        for path in SOCKETS:
            assert asyncio.run(_connect(base, origin="http://evil.example", path=path)) == "403"
            assert asyncio.run(_connect(base, path=path)) == "403"
    finally:
        served.close()
    served = Served(TOKEN)
    try:
        assert TOKEN in served.url
        base = served.url.partition("/?")[0]
        assert httpx.get(base).status_code == httpx.get(f"{base}/pad").status_code == 403
        for path in ("ws", *SOCKETS):
            assert asyncio.run(_connect(base, origin=base, path=path)) == "403"
        with httpx.Client() as client:
            assert client.get(served.url).status_code == 200
            assert client.get(base).status_code == client.get(f"{base}/pad").status_code == 200  # by the cookie
    finally:
        served.close()


def test_a_port_in_use_is_said() -> None:
    served = Served()
    try:
        port = int(served.url.split(":")[2].strip("/"))
        with pytest.raises(SystemSetupError, match=f"127.0.0.1:{port}.*another port="):
            Pages(served.desk, served.loop, host="127.0.0.1", port=port, token="", faces_arm=True)
    finally:
        served.close()


@pytest.mark.parametrize(
    "drive",
    [
        {"linear": [1, 2]},
        {"linear": [1, 2, "3"]},
        {"angular": [float("nan"), 0, 0]},
        {"angular": [1e999, 0, 0]},
        {"linear": [True, 0, 0]},
        {"grip": "open"},
    ],
)
def test_wrong_wishes_are_refused(drive: dict[str, object]) -> None:
    with pytest.raises(EmuRobotError):
        read_wish(drive, faces_arm=True)


def test_wrong_messages_are_refused() -> None:
    for text in ("", "[1]", "{" * 3000, "x" * 5000):
        with pytest.raises(EmuRobotError):
            read_message(text)
    for kind, text in (("fly", ""), (["stop"], ""), ("flag", 3), ("flag", "x" * 300)):
        with pytest.raises(EmuRobotError):
            read_order(kind, text)


def test_an_operator_behind_the_arm_sees_the_other_directions() -> None:
    right, away, up = np.eye(3)
    np.testing.assert_allclose(to_base(away, faces_arm=True), [-1, 0, 0])
    np.testing.assert_allclose(to_base(right, faces_arm=True), [0, 1, 0])
    np.testing.assert_allclose(to_base(away, faces_arm=False), [1, 0, 0])
    np.testing.assert_allclose(to_base(right, faces_arm=False), [0, -1, 0])
    np.testing.assert_allclose(to_base(up, faces_arm=False), [0, 0, 1])
