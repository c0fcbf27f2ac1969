"""The certificate with which a page is encrypted. Browsers tell a phone's tilt, and headsets, to such pages alone."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from emu_robot.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Tls:
    """A certificate that a web server shows, and its key. Raises `ConfigError` if they cannot be used."""

    certificate: Path
    """PEM file with the certificate, and those that sign it."""
    key: Path
    """PEM file with its private key, without a password."""

    def __post_init__(self) -> None:
        for file in (self.certificate, self.key):
            if not file.is_file():
                raise ConfigError(f"{file}: no such file; `openssl req -x509` makes certificate and key")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password=_no_password)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"{self.certificate} with {self.key} is no certificate with its key: {error}") from error


def _no_password() -> str:
    """Called for a key with a password, which OpenSSL would else ask for on the terminal."""
    return ""
