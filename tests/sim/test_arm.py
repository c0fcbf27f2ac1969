"""The tabletop's arm for teleoperation: kinematics, physics by the clock, pictures of their own thread."""

from contextlib import closing

import numpy as np

from emu_robot.robots.spec import PANDA
from emu_sim.environment import TabletopEnvironment
from emu_sim.grammar import colour_of
from emu_sim.scene import RGB

DT = 1 / 30


def test_the_jacobian_is_the_derivative_of_the_pose() -> None:
    with closing(TabletopEnvironment().arm()) as arm:
        joints = np.array([place + 0.1 * i for i, place in enumerate(PANDA.home)])
        jacobian, pose = arm.kinematics.jacobian(joints), arm.kinematics.pose(joints)
        for i in range(7):
            step, turn = pose.way_to(arm.kinematics.pose(joints + 1e-6 * np.eye(7)[i]))
            np.testing.assert_allclose(np.concatenate([step, turn]) / 1e-6, jacobian[:, i], atol=1e-4)


def test_physics_follows_the_clock_and_pictures_follow_the_arm() -> None:
    with closing(TabletopEnvironment().arm(64)) as arm:
        instruction, subtasks = arm.new_scene(3, 10.0)
        assert instruction and subtasks
        first = arm.pictures()
        assert first is not None and first[1] == 10.0 and first[0]["front"].shape == (64, 64, 3)
        target = np.append(np.array(PANDA.home) + 0.3, 0.0)
        started = arm._environment.world.data.time
        for tick in range(31):
            arm.command(target, 10.0 + DT * tick)
        assert abs(arm._environment.world.data.time - started - 1.0) < 0.01
        np.testing.assert_allclose(arm.state(11.0)[0][:7], target[:7], atol=0.03)
        arm.new_scene(3, 12.0)
        again = arm.pictures()
        assert again is not None and again[1] == 12.0
        np.testing.assert_array_equal(again[0]["wrist"], first[0]["wrist"])
        with closing(TabletopEnvironment()) as other:
            other.reset(3)
            np.testing.assert_array_equal(again[0]["front"], other.render("front", 64))


def test_bodies_are_those_of_the_scene_where_the_physics_has_them() -> None:
    with closing(TabletopEnvironment().arm(64)) as arm:
        arm.new_scene(3, 10.0)
        world, names = arm._environment.world, [body.name for body in arm.bodies]
        assert len(set(names)) == len(names) == len(arm.body_poses)
        assert {"world", "link0", "link7", "tray"} <= set(names)
        assert sum(name.startswith("object") for name in names) == len(world.objects), "an empty slot is drawn"
        for body, pose in zip(arm.bodies, arm.body_poses, strict=True):
            np.testing.assert_array_equal(pose[:3], world.data.body(body.name).xpos)
            for surface in body.surfaces:
                assert surface.faces.max() < len(surface.vertices) and np.isfinite(surface.vertices).all()
        cube = next(name for name in world.objects if name.endswith("cube"))
        colours = [s.rgb for body in arm.bodies if body.name == f"object{world._slots[cube]}" for s in body.surfaces]
        assert colours == [RGB[colour_of(cube)]]
        before, poses = arm.bodies, arm.body_poses
        for tick in range(10):
            arm.command(np.append(np.array(PANDA.home) + 0.3, 0.0), 10.0 + DT * tick)
        assert arm.bodies is before and np.abs(arm.body_poses - poses)[names.index("link7")].max() > 0.01
        arm.new_scene(4, 12.0)
        assert arm.bodies is not before
