"""The gate's states as docs/DEPLOY.md draws them."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/DEPLOY.md"
SEEN_BY_THE_NODE = {"clock jump", "rival"}
"""Labels that need the node's clock and the graph; tests/ros/test_safety_node.py makes them happen."""

type Edges = dict[tuple[str, str], set[str]]


def drawn_transitions() -> Edges:
    """(from, to) -> labels, of the diagram."""
    diagram = PAGE.read_text().partition("```mermaid")[2].partition("```")[0]
    lines = re.findall(r"^    (\S+) --> (\w+)(?:: (.*))?$", diagram, flags=re.MULTILINE)
    return {(start, end): set(label.split(", ")) for start, end, label in lines}
