# The package is a compiled extension without type information of its own.
from typing import Any

def __getattr__(name: str) -> Any: ...
