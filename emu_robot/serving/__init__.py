"""Policies behind the protocols of other harnesses."""
