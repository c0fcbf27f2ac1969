from glob import glob

from setuptools import setup

NAME = "emu_robot_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.py")),
        (f"share/{NAME}/config", glob("config/*")),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="emu_robot maintainers",
    maintainer_email="maintainers@emu-robot.org",
    description="Planner, policy, safety gate, simulation, recorder and teleoperation of emu_robot as ROS 2 nodes.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            f"planner = {NAME}.starting:planner",
            f"policy = {NAME}.starting:policy",
            f"recorder = {NAME}.starting:recorder",
            f"safety = {NAME}.starting:safety",
            f"sim_bridge = {NAME}.starting:sim_bridge",
            f"teleop = {NAME}.starting:teleop",
        ]
    },
)
