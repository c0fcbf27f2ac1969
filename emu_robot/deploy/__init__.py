"""Starts the nodes, and checks machine and running graph before a robot moves. Knows no middleware."""
