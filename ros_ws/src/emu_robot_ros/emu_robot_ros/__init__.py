"""Thin ROS 2 nodes around emu_robot; what they decide is decided there."""
