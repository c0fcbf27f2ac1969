"""Build this workspace on a machine without ROS: the interfaces and nodes, into a virtual environment of wheels.

Where no package brings control_msgs, our part of it is built, too, from the folder without_ros. It lies outside of src
and holds a COLCON_IGNORE, so that neither rosdep nor colcon of a real ROS sees a second package of this name.

python ros_ws/without_ros.py ENVIRONMENT [--also SITE_PACKAGES]

ENVIRONMENT: a virtual environment that holds ros_ws/requirements.txt. --also: packages that it shall see, too, such as
those of the environment with torch and emu_robot. Needs a C and a C++ compiler; standard library only.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "src"
CONTROL_MSGS = Path(__file__).resolve().parent / "without_ros/control_msgs"
BAKED = re.compile(r"/opt/python/cp312-cp312/(include/python3\.12|lib/python3\.12/site-packages/numpy/_core/include)")
"""Where the machine that built the wheels had Python's and numpy's headers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path)
    parser.add_argument("--also", type=Path)
    wanted = parser.parse_args()
    environment = wanted.environment.resolve()
    missing = [name for name in ("cc", "c++") if shutil.which(name) is None]
    if missing:
        sys.exit(f"missing: {' and '.join(missing)}, to compile messages. Get them: apt-get install build-essential")
    correct_headers(environment)
    if not brings_control_msgs(environment):
        build(environment, CONTROL_MSGS)
    build(environment, SOURCES / "emu_robot_interfaces")
    site_packages = environment / "lib/python3.12/site-packages"
    lines = [str(SOURCES / "emu_robot_ros")]
    if wanted.also:
        lines.append(f"import site; site.addsitedir({str(wanted.also.resolve())!r})")
    (site_packages / "emu_robot_ros.pth").write_text("\n".join(lines) + "\n")
    share = environment / "share/ament_index/resource_index/packages/emu_robot_ros"
    share.parent.mkdir(parents=True, exist_ok=True)
    share.touch()


def correct_headers(environment: Path) -> None:
    """Point the wheels' CMake files to the headers of this Python and numpy."""
    said = subprocess.check_output(
        [
            environment / "bin/python",
            "-c",
            "import numpy, sysconfig as s; print(s.get_path('include'), numpy.get_include())",
        ],
        text=True,
    )
    python, numpy = said.split()
    for path in (environment / "share").rglob("*.cmake"):
        text = path.read_text()
        right = BAKED.sub(lambda match: python if match[1].startswith("include") else numpy, text)
        if right != text:
            path.unlink()  # an installer's cache may share the file by a hard link
            path.write_text(right)


def brings_control_msgs(environment: Path) -> bool:
    """Whether a package in the environment brings control_msgs; what we built there before does not count."""
    manifest = environment / "share/control_msgs/package.xml"
    return manifest.exists() and "emu_robot" not in manifest.read_text()


def build(environment: Path, source: Path) -> None:
    """Generate, compile and install a package of interfaces."""
    build = environment / "build" / source.name
    cache = build / "CMakeCache.txt"
    if cache.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={source}\n" not in cache.read_text():
        shutil.rmtree(build)  # of another checkout, which CMake would not take
    here = {"AMENT_PREFIX_PATH": str(environment), "CMAKE_PREFIX_PATH": str(environment)}
    path = {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    configure = [
        "cmake", "-G", "Ninja", "-S", source, "-B", build, "-Wno-dev", "-DBUILD_TESTING=OFF",
        f"-DCMAKE_INSTALL_PREFIX={environment}", f"-DPython3_EXECUTABLE={environment / 'bin/python'}",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", build], ["cmake", "--install", build]):
        done = subprocess.run(
            [str(word) for word in command], env={**os.environ, **here, **path}, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    main()
