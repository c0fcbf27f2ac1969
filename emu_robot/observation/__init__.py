"""Pictures and joint states, read from what drivers send, become observations that belong together.

Knows no middleware. Nothing here reads a clock: every call is given the `Moment` at which it is made.
"""
