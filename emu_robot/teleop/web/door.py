"""Who may use the pages: requests name a known host, come from our own pages, and bring the token if there is one."""

import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from emu_robot.errors import ConfigError

COOKIE = "emu_robot_teleop"
"""Name of the cookie with the token of teleoperation; other pages of one machine need other names."""
DRIVING = "other machines could drive the arm"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
FEWEST_CHARACTERS = 12
"""Length of the shortest token."""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(16)


class Door:
    """Judges requests by their headers and address.

    Against other sites in the operator's browser: the Host must be ours, which foils rebound names, and the Origin of
    a websocket must be the same. Against other machines: the token, once in the address, then in a cookie.
    """

    def __init__(self, host: str, token: str, *, cookie: str = COOKIE, risk: str = DRIVING) -> None:
        """host: address that the server listens on. token: empty for none; another host than loopback needs one.

        cookie: name of the cookie. risk: what happens without a token, in words.

        Raises `ConfigError`.
        """
        if not is_loopback(host) and not token:
            raise ConfigError(f"host is {host}: {risk}; give token=WORD, too")
        if token and len(token) < FEWEST_CHARACTERS:
            raise ConfigError(f"the token has {len(token)} characters, must have {FEWEST_CHARACTERS} at least")
        self._token, self._cookie = token, cookie
        self._any_host = not is_loopback(host)

    def why_refused(self, headers: Mapping[str, str], query: str, cookies: Mapping[str, str], *, socket: bool) -> str:
        """Why a request is refused; empty if it is let in. socket: whether it opens a websocket."""
        host, origin = headers.get("host", ""), headers.get("origin")
        name = urlsplit(f"//{host}").hostname or ""
        if not self._any_host and name not in LOOPBACK:
            return f"the host {host!r} is not this machine's own; open http://localhost"
        if origin is not None and urlsplit(origin).netloc != host:
            return f"a page of {origin} asks, which is not ours"
        if socket and origin is None:
            return "a websocket without Origin: open it from our page"
        if not self._token:
            return ""
        given = (*parse_qs(query).get("token", []), cookies.get(self._cookie, ""))
        known = any(hmac.compare_digest(word.encode(), self._token.encode()) for word in given)
        return "" if known else "the address lacks the token that was printed at the start: ?token=..."

    def cookie(self) -> dict[str, str] | None:
        """The header that keeps the token in the browser; None without a token."""
        if not self._token:
            return None
        return {"set-cookie": f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"}
