"""Turns operators' inputs into short chunks for the safety gate: gamepads jog joints, leader arms are followed.

Numpy only; knows no middleware. Times are seconds of one steady clock that the caller reads.
"""
