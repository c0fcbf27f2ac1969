"""A session with an arm whose kinematics are not known: one joint at a time."""

import time

import numpy as np
import pytest
from fake_arm import JOINTS, FakeArm
from teleop_page import Served, chromium, wait_page

from emu_robot.control.safety import GateState
from emu_robot.errors import InvalidValueError
from emu_robot.robots.limits import MotionLimits
from emu_robot.robots.spec import RobotLayout
from emu_robot.teleop.desk import Desk, Order, OrderKind, Sample
from emu_robot.teleop.hand import HandConfig, Wish
from emu_robot.teleop.keys import read_wish
from emu_robot.teleop.session import Session, SessionConfig, View

DT = 1 / 30


class Unknown(FakeArm):
    """The fake arm without its kinematics. grippers: whether it has its gripper."""

    def __init__(self, *, share: float = 1.0, grippers: bool = True) -> None:
        super().__init__(share)
        self.kinematics = None
        if not grippers:
            names, all_limits = self.layout.action_names[:JOINTS], vars(self.limits)
            self.layout = RobotLayout(state_names=names, action_names=names, n_grippers=0, relative_dims=JOINTS)
            self.limits = MotionLimits(**{name: value[:JOINTS] for name, value in all_limits.items()})

    def new_scene(self, seed: int, now: float) -> tuple[str, tuple[str, ...]]:
        said = super().new_scene(seed, now)
        self.position = self.position[: len(self.limits.lower)]
        return said


class Rig:
    def __init__(self, arm: Unknown, **hand: float) -> None:
        self.arm, self.desk, self.now = arm, Desk(), 100.0
        self.session = Session(arm, self.desk, SessionConfig(hand=HandConfig(**hand)))
        self.session.lay_scene(0, self.now)
        self.view = self.run(15)

    def run(self, ticks: int, wish: Wish | None = None) -> View:
        for _ in range(ticks):
            self.now += DT
            self.desk.drive("ann", Sample(at=self.now, pressed=wish is not None, wish=wish or Wish()))
            self.view = self.session.tick(self.now)
        return self.view


def test_one_joint_moves_at_its_speed_and_the_others_stay() -> None:
    rig = Rig(Unknown(), angular_speed=0.6)
    assert rig.view.joints == tuple(f"joint{i}" for i in range(JOINTS))
    assert rig.view.tool is None and rig.view.target is None
    rig.run(10, Wish(joint=2, share=-1.0))
    before = rig.arm.position[2]
    view = rig.run(30, Wish(joint=2, share=-1.0))
    assert view.is_driven and view.position[2] - before == pytest.approx(-0.6, abs=0.03)
    np.testing.assert_allclose(np.delete(view.position[:JOINTS], 2), 0, atol=1e-9)
    rig.run(6)
    assert rig.view.gate is GateState.HOLDING
    np.testing.assert_allclose(rig.run(90, Wish(goes_home=True)).position[:JOINTS], 0, atol=2e-3)


def test_a_target_leads_a_stuck_joint_by_the_leash_and_ends_at_its_limit() -> None:
    rig = Rig(Unknown(share=0.0), leash_rad=0.2)
    rig.run(60, Wish(joint=0, share=1.0))
    assert 0.15 < rig.arm.commands[-1][0] <= 0.2001
    rig = Rig(Unknown(), angular_speed=2.0)
    rig.run(60, Wish(joint=0, share=1.0))
    assert rig.arm.position[0] == pytest.approx(1.0, abs=1e-6)


def test_a_joint_that_is_not_there_moves_nothing() -> None:
    rig = Rig(Unknown())
    rig.run(20, Wish(joint=40, share=1.0))
    np.testing.assert_allclose(rig.arm.position[:JOINTS], 0)


def test_an_arm_without_gripper_says_so() -> None:
    rig = Rig(Unknown(grippers=False))
    rig.run(3, Wish())
    assert rig.desk.order("ann", Order(kind=OrderKind.GRIPPER), rig.now) == ""
    assert rig.run(1, Wish()).said == "this arm has no gripper"
    assert rig.run(10, Wish(joint=1, share=1.0)).position[1] > 0.05


def test_a_page_names_the_joint() -> None:
    wish = read_wish({"joint": 3, "share": -7}, faces_arm=True)
    assert (wish.joint, wish.share) == (3, -1.0)
    for wrong in ({"joint": -1}, {"joint": 1.5}, {"joint": True}, {"joint": 99}, {"joint": 1, "share": "x"}):
        with pytest.raises(InvalidValueError, match="must be"):
            read_wish(wrong, faces_arm=True)


def test_the_page_shows_the_joints_and_digits_choose_one() -> None:
    served = Served(arm=Unknown())
    with chromium() as browser:
        page = browser.new_page()
        page.on("pageerror", lambda error: pytest.fail(f"the page's script: {error}"))
        page.goto(served.pad)
        wait_page(page, "document.querySelectorAll('#joints button').length === 6", 30)
        served.wait(lambda view: view.gate.is_armed, 10)
        page.keyboard.press("3")
        ends = time.monotonic() + 60
        while served.arm.position[2] > -0.1:  # a page without CPU is held, and pressed again
            assert time.monotonic() < ends
            for key in ("Space", "s"):
                page.keyboard.down(key)
            time.sleep(0.5)
            for key in ("s", "Space"):
                page.keyboard.up(key)
        np.testing.assert_allclose(np.delete(served.arm.position[:JOINTS], 2), 0, atol=1e-9)
        assert "joints at" in page.evaluate("document.querySelector('#numbers').textContent")
        assert page.evaluate("document.querySelector('#joints .main').textContent") == "3 joint2"
    served.close()
