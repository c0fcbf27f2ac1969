"""Operators' inputs -> short chunks for the safety gate: gamepads that jog joints, leader arms. Numpy only.

Knows no middleware: messages are plain sequences, times are seconds of one steady clock that the caller reads.
"""
