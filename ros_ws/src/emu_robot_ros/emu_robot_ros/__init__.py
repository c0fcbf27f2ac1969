"""Thin ROS 2 nodes around emu_robot, which makes their decisions."""
