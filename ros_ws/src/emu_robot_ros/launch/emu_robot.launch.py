"""Starts the nodes of config/graph.yaml with ROS 2's launch, as `emu-robot bringup` does without it.

When one node ends, launch stops all others at the same time; bringup stops the safety gate last.

ros2 launch emu_robot_ros emu_robot.launch.py graph:=sim
ros2 launch emu_robot_ros emu_robot.launch.py graph:=arm robot:=ur5e nodes:=+recorder namespace:=left
"""

from functools import partial
from pathlib import Path
from typing import List  # noqa: UP035

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from emu_robot.deploy.graph import Graph, GraphNode, read_graph
from emu_robot.deploy.graph_file import Parameter
from emu_robot.deploy.ros_environment import node_environment

ARGUMENTS = {
    "graph": ("sim", "sim, arm, or another of the file's"),
    "robot": ("", "a robot that ships, or a YAML file; empty: the graph's"),
    "weights": ("", "weights of planner and policy; empty: the graph's"),
    "namespace": ("", "namespace of all nodes, such as left; empty: the graph's"),
    "nodes": ("", "a,b to replace the graph's nodes, +a,-b to add one and remove one"),
    "file": ("", "another graph.yaml"),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then start the nodes."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[SetEnvironmentVariable | LifecycleNode]:
    """Set the environment and start the nodes. All end when one ends."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    settings = {name: given[name] for name in ("robot", "weights") if given[name]}
    file = Path(given["file"]) if given["file"] else None
    nodes, namespace = given["nodes"], given["namespace"]
    graph = read_graph(given["graph"], nodes=nodes, namespace=namespace, settings=settings, file=file)
    environment = node_environment(graph.usual_environment, graph.environment)
    return [
        *(SetEnvironmentVariable(name, value) for name, value in environment.items()),
        *(lifecycle_node(node, graph) for node in graph.nodes),
    ]


def lifecycle_node(node: GraphNode, graph: Graph) -> LifecycleNode:
    """A node that configures and activates itself, by its parameter autostart. Values have types, else "7" would be 7.

    exec_name marks its lines; without it, launch would use the first word of the command, "nice". It has dots for
    slashes, because launch makes file names of it.
    """
    parameters = {name: ParameterValue(value, value_type=type_of(value)) for name, value in node.parameters.items()}
    return LifecycleNode(
        package="emu_robot_ros",
        executable=node.name,
        name=node.name,
        namespace=graph.namespace,
        exec_name=graph.label(node).replace("/", "."),
        parameters=[{**parameters, "autostart": True}],
        prefix=f"nice -n {node.nice}" if node.nice else None,
        output="screen",
        on_exit=partial(end_all, graph.label(node)),
    )


def end_all(label: str, event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """Shut down all nodes after one has ended; None if they already end, as launch fails on a second shutdown."""
    return None if context.is_shutdown else Shutdown(reason=f"{label} ended")


def type_of(value: Parameter) -> object:
    """The type as launch names it: float, or List[float], which to launch is not list[float]."""
    return List[type(value[0])] if isinstance(value, list) else type(value)  # noqa: UP006
