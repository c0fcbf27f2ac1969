"""Observation in, actions out: a planner and an action head that work together."""
