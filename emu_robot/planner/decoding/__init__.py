"""Sampling of plans from the transformer, ids in, ids out. Knows no robots."""
