"""A browser, and a session with a fake arm for its pages."""

from collections.abc import Iterator
from typing import Any

import pytest
from teleop_page import Served, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    yield one
    one.close()
