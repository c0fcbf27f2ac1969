"""Checks what a machine needs for the ROS 2 nodes; each problem is one line with its remedy. Needs no ROS itself.

`emu_robot_ros.preflight` checks the running graph, in the Python that has ROS.
"""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections.abc import Mapping
from pathlib import Path

from emu_robot.deploy.graph_file import graph_path
from emu_robot.deploy.ros_environment import PROJECT, is_of_wheels
from emu_robot.doctor import Check

RMEM_MAX, RECEIVE_BUFFER = Path("/proc/sys/net/core/rmem_max"), 4 << 20
"""File with the largest receive buffer of a socket, and the size that the profiles that ship ask for [bytes]."""
SHARED = "Over Fast DDS's shared memory a process that stood still may receive nothing any more"
DOMAINS = range(102)
"""Allowed values of ROS_DOMAIN_ID. Higher ones collide with ports that Linux gives to other programs."""
LOOPBACK = "fastdds_loopback.xml"
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
PROBE = """
import json
found = {}
for name in ("rclpy", "emu_robot_interfaces", "emu_robot", "emu_robot_ros"):
    try:
        found[name] = __import__(name).__file__
    except Exception as error:
        found[name + " error"] = f"{type(error).__name__}: {error}"
try:
    from rclpy.utilities import get_rmw_implementation_identifier
    found["rmw"] = get_rmw_implementation_identifier()
except Exception as error:
    found["rmw error"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""
"""Prints as JSON what a Python can import: module -> file, or "<module> error" -> reason."""
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_TAGS = ("type", "useBuiltinTransports")


def machine_checks(found: Mapping[str, str], nice: int) -> list[Check]:
    """All checks of this machine but the imports. found: from `probe`. nice: lowest niceness in the graph."""
    return [
        check_interfaces(found),
        check_rmw(found, os.environ),
        *check_domain(os.environ),
        check_profile(os.environ),
        check_receive_buffer(),
        check_clock(),
        *check_priorities(nice),
    ]


def probe(python: Path) -> dict[str, str]:
    """Output of `PROBE` in this Python; if it does not run, its error under "rclpy error"."""
    answer = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, check=False, timeout=60)
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
        return {"rclpy error": said}
    return json.loads(answer.stdout.splitlines()[-1])


def check_imports(python: Path, found: Mapping[str, str]) -> list[Check]:
    """rclpy, our interfaces, our nodes and emu_robot load in the Python that has ROS."""
    kind = "wheels" if is_of_wheels(python) else "installed"
    remedy = "make ros" if is_of_wheels(python) else "colcon build in ros_ws, then source install/setup.bash"
    remedies = {
        "rclpy": "source /opt/ros/jazzy/setup.bash, or make ros",
        "emu_robot": f"in the checkout: {python} -m pip install -e .",
    }
    checks = []
    for name in ("rclpy", "emu_robot", "emu_robot_interfaces", "emu_robot_ros"):
        problem = None
        if name not in found:
            why = found.get(f"{name} error", "not found")
            problem = f"{name} does not load in {python} ({why}). Get it: {remedies.get(name, remedy)}"
        checks.append(Check(name=f"{name} in {python} ({kind})" if name == "rclpy" else name, problem=problem))
    return checks


def check_interfaces(found: Mapping[str, str], sources: Path | None = None) -> Check:
    """The built messages equal their sources, if there are sources."""
    name, sources = "interfaces are current", sources or PROJECT / "ros_ws/src/emu_robot_interfaces"
    if "emu_robot_interfaces" not in found or not sources.exists():
        return Check(name="interfaces: no sources to compare with")
    module = Path(found["emu_robot_interfaces"])
    share = next((p / "share/emu_robot_interfaces" for p in module.parents if (p / "share").is_dir()), None)
    stale = [
        path.name
        for path in sorted(sources.rglob("*"))
        if path.suffix in (".msg", ".srv", ".action") and share and not _same(path, share / path.relative_to(sources))
    ]
    if share is None or stale:
        what = f"{', '.join(stale)} changed since it was built" if stale else f"no share folder above {module}"
        return Check(name=name, problem=f"emu_robot_interfaces: {what}. Build it: make ros, or colcon build in ros_ws")
    return Check(name=name)


def check_rmw(found: Mapping[str, str], environment: Mapping[str, str]) -> Check:
    """The middleware is Fast DDS, the only one that was tested."""
    rmw, wanted = found.get("rmw"), environment.get("RMW_IMPLEMENTATION", "")
    remedy = "export RMW_IMPLEMENTATION=rmw_fastrtps_cpp, for the drivers, too"
    if rmw is None:
        why = found.get("rmw error", "unknown")
        return Check(name="middleware", problem=f"the middleware {wanted or 'default'} does not load ({why}). {remedy}")
    if not rmw.startswith("rmw_fastrtps"):
        return Check(name=rmw, problem=f"the middleware is {rmw}, tried was only Fast DDS. {remedy}", required=False)
    return Check(name=f"middleware {rmw}")


def check_domain(environment: Mapping[str, str]) -> list[Check]:
    """Domain and discovery range, always shown: nodes find each other only if both fit."""
    domain = environment.get("ROS_DOMAIN_ID") or "0"
    scope = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or "SUBNET"
    problem = None
    if not domain.isdecimal() or int(domain) not in DOMAINS:
        problem = f"ROS_DOMAIN_ID is {domain!r}, must lie in 0 to {DOMAINS[-1]}. Set it, for the drivers, too"
    checks = [Check(name=f"ROS_DOMAIN_ID {domain}", problem=problem)]
    problem = None
    if scope not in RANGES:
        problem = f"ROS_AUTOMATIC_DISCOVERY_RANGE is {scope!r}, must be one of {', '.join(RANGES)}"
    elif scope == "OFF":
        problem = "ROS_AUTOMATIC_DISCOVERY_RANGE is OFF: nodes find no others. Set SUBNET"
    checks.append(Check(name=f"discovery range {scope}", problem=problem))
    if scope == "LOCALHOST":
        remedy = f"Instead: ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT {PROFILE}={graph_path().parent / LOOPBACK}"
        checks.append(Check(name=scope, problem=f"LOCALHOST adds a transport. {SHARED}. {remedy}", required=False))
    if "ROS_LOCALHOST_ONLY" in environment:
        problem = "ROS_LOCALHOST_ONLY overrides the discovery range. Unset it, set ROS_AUTOMATIC_DISCOVERY_RANGE"
        checks.append(Check(name="ROS_LOCALHOST_ONLY", problem=problem, required=False))
    return checks


def check_profile(environment: Mapping[str, str]) -> Check:
    """A profile other than the one that ships uses UDP, without shared memory."""
    path = environment.get(PROFILE)
    if path is None:
        return Check(name=f"{PROFILE} is not set, so nodes get the one that ships")
    try:
        root = xml.parse(path).getroot()
    except (OSError, xml.ParseError) as error:
        problem = f"{PROFILE}: {path} cannot be read ({error}). Unset it, or set one of {graph_path().parent}"
        return Check(name="profile", problem=problem)
    text = {name: [node.text or "" for node in root.iter() if node.tag.rpartition("}")[2] == name] for name in _TAGS}
    builtin = text["useBuiltinTransports"] != ["false"]
    if builtin or any(kind.strip() == "SHM" for kind in text["type"]):
        problem = f"{path} lets processes of one machine share memory. {SHARED}. Unset {PROFILE}"
        return Check(name="profile", problem=problem, required=False)
    return Check(name=f"profile {path}")


def check_receive_buffer(file: Path = RMEM_MAX) -> Check:
    """The receive buffer holds the pictures that come at once: two of 640 x 480 are 1.8 MB."""
    largest = int(file.read_text())
    name, problem = f"net.core.rmem_max {largest}", None
    if largest < RECEIVE_BUFFER:
        remedy = f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER}, and the same in /etc/sysctl.d/60-emu_robot.conf"
        problem = f"{name}: pictures of 640 x 480 and more get lost. Set it where nodes run: {remedy}"
    return Check(name=name, problem=problem, required=False)


def check_clock() -> Check:
    """The system clock is synchronised: stamps come from it, so machines of one graph must agree."""
    name = "system clock synchronised"
    remedy = "Where drivers run on another machine, install chrony on both: apt-get install chrony"
    said = answer_of("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if said in ("yes", "no"):
        problem = f"the system clock is not synchronised (timedatectl). {remedy}" if said == "no" else None
        return Check(name=name, problem=problem, required=False)
    said = answer_of("chronyc", "tracking")
    if "Leap status" in said:
        problem = None if "Normal" in said else f"the system clock is not synchronised (chronyc). {remedy}"
        return Check(name=name, problem=problem, required=False)
    problem = f"neither timedatectl nor chronyc says whether the system clock is synchronised. {remedy}"
    return Check(name=name, problem=problem, required=False)


def check_priorities(nice: int) -> list[Check]:
    """This user's processes may have the priorities that the graph gives to the gate."""
    user = os.environ.get("USER", "<user>")
    file = "/etc/security/limits.d/emu_robot.conf, then log in again"
    problem = None
    if not permitted(f"os.setpriority(os.PRIO_PROCESS, 0, {nice})"):
        problem = f"niceness {nice} is not permitted, load may delay the gate. Put '{user} - nice {nice}' into {file}"
    checks = [Check(name=f"niceness {nice} permitted", problem=problem, required=False)]
    problem = None
    if not permitted("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))"):
        problem = f"real-time priority is not permitted, ros2_control wants it. Put '{user} - rtprio 99' into {file}"
    return [*checks, Check(name="real-time priority permitted", problem=problem, required=False)]


def permitted(statement: str) -> bool:
    """Whether a statement works, tried in a process of its own."""
    command = [sys.executable, "-I", "-S", "-c", f"import os; {statement}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def answer_of(*command: str) -> str:
    """Output of a program; empty if it does not exist or fails."""
    if shutil.which(command[0]) is None:
        return ""
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()
