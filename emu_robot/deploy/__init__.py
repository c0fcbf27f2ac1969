"""Which nodes run where, what they need of the machine, and whether a robot may move. Knows no middleware."""
