"""Makes observations of the pictures and joint states that drivers send.

Knows no middleware and reads no clock: every call gets the `Moment` at which it is made.
"""
