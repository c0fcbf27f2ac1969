"""A phone's tilt on the page /pad, in a real browser whose sensor the test turns."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_arm import tool_of
from teleop_page import Fingers, Served, opened_pad, stands_still, wait_page

from emu_robot.control.safety import GateState
from emu_robot.errors import ConfigError
from emu_robot.robots.pose import turn_of
from emu_robot.teleop.web.tls import Tls

TOKEN = "a-token-of-ours"
IPHONE = "DeviceOrientationEvent.requestPermission = async () => { window.asked = true; return '%s'; };"
TILTS = "document.getElementById('tilt').ariaPressed === 'true'"
SENSORS = "document.getElementById('sensors').textContent.includes('%s')"


class Phone:
    """A page on a phone that lies somehow, as alpha, beta and gamma say [degrees]."""

    def __init__(self, browser: Any, served: Served, script: str = "", address: str = "", **settings: Any) -> None:
        self.context = browser.new_context(has_touch=True, viewport={"width": 400, "height": 800}, **settings)
        self.page = opened_pad(self.context.new_page(), served, script, address)
        self.fingers = Fingers(self.page)
        self._devtools = self.context.new_cdp_session(self.page)

    def lies(self, alpha: float, beta: float, gamma: float) -> None:
        """Turn it."""
        place = {"alpha": alpha, "beta": beta, "gamma": gamma}
        self._devtools.send("DeviceOrientation.setDeviceOrientationOverride", place)

    def rotate_screen(self) -> None:
        """The phone is in landscape: its top is at the left of the picture."""
        turned = {"type": "landscapePrimary", "angle": 90}
        size = {"width": 800, "height": 400, "deviceScaleFactor": 1, "mobile": True}
        self._devtools.send("Emulation.setDeviceMetricsOverride", size | {"screenOrientation": turned})

    def turn_on(self) -> None:
        """Use the tilt."""
        self.page.locator("#tilt").tap()
        wait_page(self.page, TILTS)

    def hold(self) -> None:
        """Touch the field."""
        self.page.locator("#stick").scroll_into_view_if_needed()
        self.fingers.down(self.fingers.on("#stick"))


@pytest.fixture
def phone(browser: Any, served: Served) -> Iterator[Phone]:
    one = Phone(browser, served)
    one.lies(200, 40, -10)
    one.turn_on()
    yield one
    one.context.close()


def test_a_phone_drives_by_its_tilt_since_the_touch_and_only_while_it_is_touched(phone: Phone, served: Served) -> None:
    phone.lies(200, 0, -10)
    assert stands_still(served), "tilt without a finger moved the arm"
    phone.hold()
    served.wait(lambda view: view.is_driven)
    assert stands_still(served), "the phone was not level at the touch"
    phone.lies(200, -30, -10)
    served.wait(lambda view: tool_of(view).position[0] < -0.02)  # its top went down: away from an operator
    phone.fingers.up()
    served.wait(lambda view: view.gate is GateState.HOLDING, 2.0)
    assert stands_still(served)
    phone.hold()
    served.wait(lambda view: view.is_driven)
    assert stands_still(served), "a second touch did not count from where the phone is"
    at = tool_of(served.view).position[0]
    phone.lies(200, 0, -10)
    served.wait(lambda view: tool_of(view).position[0] > at + 0.02)


def test_right_is_where_the_right_edge_goes_down_and_a_twist_turns(phone: Phone, served: Served) -> None:
    phone.lies(0, 0, 0)
    phone.hold()
    phone.lies(0, 0, 25)
    served.wait(lambda view: tool_of(view).position[1] > 0.02)
    phone.lies(40, 0, 0)
    served.wait(lambda view: turn_of(tool_of(view).rotation)[2] > 0.1)
    assert abs(tool_of(served.view).position[0]) < 1e-3


def test_a_small_tilt_moves_nothing_and_other_fields_still_do(phone: Phone, served: Served) -> None:
    phone.lies(0, 20, 0)
    phone.hold()
    served.wait(lambda view: view.is_driven)
    phone.lies(2, 22, 2)
    assert stands_still(served)
    stick, (x, y) = phone.fingers.on("#stick"), phone.fingers.on("#lift")
    phone.fingers.down(stick, (x, y))
    phone.fingers.move(stick, (x, y - 60))
    served.wait(lambda view: tool_of(view).position[2] > 0.02)
    assert abs(tool_of(served.view).position[1]) < 1e-3


def test_in_landscape_the_axes_are_those_of_the_picture(browser: Any, served: Served) -> None:
    phone = Phone(browser, served)
    phone.rotate_screen()
    phone.lies(0, 0, 0)
    phone.turn_on()
    phone.hold()
    phone.lies(0, 25, 0)  # the phone's top, at the left of the picture, goes up
    served.wait(lambda view: tool_of(view).position[1] > 0.02)
    assert abs(tool_of(served.view).position[0]) < 1e-3
    phone.page.evaluate("screen.orientation.dispatchEvent(new Event('change'))")
    served.wait(lambda view: not view.is_driven, 2.0)
    phone.context.close()


def test_the_tilt_is_turned_off_again(phone: Phone, served: Served) -> None:
    phone.page.locator("#tilt").tap()
    wait_page(phone.page, f"!({TILTS})")
    phone.hold()
    served.wait(lambda view: view.is_driven)
    phone.lies(0, 0, 30)
    assert stands_still(served)


def test_an_iphone_asks_its_owner_and_a_refusal_is_said(browser: Any, served: Served) -> None:
    phone = Phone(browser, served, IPHONE % "granted")
    phone.lies(0, 0, 0)
    assert not phone.page.evaluate("window.asked"), "asked before the owner wanted it"
    phone.turn_on()
    assert phone.page.evaluate("window.asked")
    phone.context.close()
    phone = Phone(browser, served, IPHONE % "denied")
    phone.lies(0, 0, 0)
    phone.page.locator("#tilt").tap()
    wait_page(phone.page, SENSORS % "not permitted (denied)")
    assert not phone.page.evaluate(TILTS)
    phone.context.close()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "this device tells none"),
        ("delete window.DeviceOrientationEvent;", "this browser has no DeviceOrientation"),
    ],
)
def test_a_missing_sensor_is_said_and_sliding_stays(browser: Any, served: Served, script: str, said: str) -> None:
    phone = Phone(browser, served, script)
    phone.page.locator("#tilt").tap()
    wait_page(phone.page, SENSORS % said)
    assert not phone.page.evaluate(TILTS)
    phone.hold()
    x, y = phone.fingers.on("#stick")
    phone.fingers.move((x, y - 60))
    served.wait(lambda view: tool_of(view).position[0] < -0.02)
    phone.context.close()


def certificate(folder: Path, password: str = "") -> Tls:
    """A new certificate, as the documentation makes one."""
    tls = folder / "cert.pem", folder / "key.pem"
    words = f"openssl req -x509 -newkey rsa:2048 -days 2 -subj /CN=robot -out {tls[0]} -keyout {tls[1]}".split()
    secret = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run([*words, *secret], check=True, capture_output=True)
    return Tls(certificate=tls[0], key=tls[1])


def test_plain_http_from_another_machine_has_no_tilt_and_https_has(browser: Any, tmp_path: Path) -> None:
    plain = Served(TOKEN, host="0.0.0.0")
    phone = Phone(browser, plain)
    assert not phone.page.evaluate("isSecureContext")
    phone.page.locator("#tilt").tap()
    wait_page(phone.page, SENSORS % "plain http")
    phone.context.close()
    plain.close()
    served = Served(TOKEN, host="0.0.0.0", tls=certificate(tmp_path))
    assert served.url.startswith("https://")
    phone = Phone(browser, served, ignore_https_errors=True)
    phone.lies(0, 0, 0)
    phone.turn_on()
    phone.hold()
    phone.lies(0, 0, 25)
    served.wait(lambda view: tool_of(view).position[1] > 0.02)
    phone.context.close()
    with pytest.raises(httpx.HTTPError):
        httpx.get(served.url.replace("https", "http"))
    served.close()


def test_what_is_no_certificate_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; `openssl req -x509`"):
        Tls(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    with pytest.raises(ConfigError, match="is no certificate with its key"):
        certificate(tmp_path, password="a-long-secret")
    good = certificate(tmp_path)
    with pytest.raises(ConfigError, match="is no certificate with its key"):
        Tls(certificate=good.key, key=good.certificate)
