"""Turns action chunks into commands, one per control tick. Numpy only."""
