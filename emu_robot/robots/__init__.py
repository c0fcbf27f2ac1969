"""Descriptions of arms: joints and limits, drivers, and the meaning of states and actions."""
