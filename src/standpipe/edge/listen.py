"""Listening sockets and TLS contexts.

Only opens; `server` accepts. Every socket comes back bound and non-blocking, so that a port below 1024 can be opened
before rights are dropped, and so that a wrong address is an error before anything else starts. It also listens, so that
clients that come early wait; but not on a shared port, where the kernel would give us a part of those whom the other
server could answer now.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from msgspec import Struct

from standpipe.edge.config import HIGH_WATER

BACKLOG = 4096
"""Connections that the kernel may hold ready for us; the kernel lowers it to its own bound."""
FIRST_INHERITED = 3
"""The first descriptor that systemd passes (sd_listen_fds)."""


_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only, no CBC (RFC 9325, 4.2). TLS 1.3 has nothing else."""


NO_UNIX_SOCKETS = "Python has no UNIX sockets on this system"


class ListenError(Exception):
    """A socket could not be opened, or a certificate not be read. The message says which and why."""


class Tls(Struct, frozen=True):
    """Paths of a PEM certificate chain and of its key."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """A fresh context from what the files hold now. Raises ListenError."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ListenError(f"cannot use the certificate {self.certificate} with {self.key}: {error}") from error
        return context


def open_tcp(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Listen on every address that `host` stands for; port 0 lets the system choose one port for all of them. With
    `reuse_port` the sockets are only bound, and whoever accepts lets them listen.

    Raises ListenError.
    """
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ListenError("reuse_port does not work on this system, which has no SO_REUSEPORT")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"cannot find the address {host!r}: {error.strerror}") from error
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            opened.append(sock)
            if family == socket.AF_INET6:
                # `::` alone takes IPv4 along; beside 0.0.0.0 it must not.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, len(found) > 1)
            chosen = opened[0].getsockname()[1] if len(opened) > 1 else port
            _listen(sock, (address[0], chosen, *address[2:]), reuse_port=reuse_port)
    except OSError as error:
        for sock in opened:
            sock.close()
        raise ListenError(f"cannot listen on {host or '*'} port {port}: {error.strerror}") from error
    return opened


def _listen(sock: socket.socket, address: tuple[object, ...], *, reuse_port: bool) -> None:
    # On Windows, SO_REUSEADDR would let any program take the port over.
    sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR), 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)
    if not reuse_port:
        sock.listen(BACKLOG)
    ready(sock)


def ready(sock: socket.socket) -> None:
    """Give a listening socket what the connections it accepts will inherit."""
    sock.setblocking(False)
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A stalled reader must cost no more in the kernel than it does here.
        with contextlib.suppress(AttributeError):  # Linux and macOS have it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, HIGH_WATER)


def open_unix(path: Path, *, mode: int = 0o660) -> socket.socket:
    """Listen on a UNIX socket. A socket file that nobody listens on any more is replaced; another file never is.

    Raises ListenError.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ListenError(f"cannot listen on the socket {path}: {NO_UNIX_SOCKETS}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        with contextlib.suppress(OSError):  # Linux makes the file like this, so it is never open to others
            os.fchmod(sock.fileno(), mode)
        sock.bind(str(path))
        path.chmod(mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on the socket {path}: {error.strerror or error}") from error
    ready(sock)
    return sock


def _clear(path: Path) -> None:
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return  # nothing, or something that `bind` will refuse to replace
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def inherited(environ: Mapping[str, str], pid: int, first: int = FIRST_INHERITED) -> list[socket.socket]:
    """The sockets that systemd, or a former self, passed to the process `pid` (LISTEN_FDS and LISTEN_PID); often none.

    They are the descriptors from `first` on. Whoever calls this takes both variables out of its environment, so that
    no child believes in them. Raises ListenError when what was passed is not a listening stream socket.
    """
    count = environ.get("LISTEN_FDS", "")
    if not count.isdecimal() or environ.get("LISTEN_PID") != str(pid):
        return []
    sockets: list[socket.socket] = []
    for descriptor in range(first, first + int(count)):
        try:
            sock = socket.socket(fileno=descriptor)
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.close()
                raise ListenError(f"the passed descriptor {descriptor} does not listen")
            ready(sock)
        except OSError as error:
            raise ListenError(f"the passed descriptor {descriptor} is no socket: {error.strerror}") from error
        sock.set_inheritable(False)
        sockets.append(sock)
    return sockets


def raise_descriptors(wanted: int) -> int:
    """Let this process have that many descriptors open, or as many as the system allows it. Gives back how many.

    The usual limit of 1024 is far below what the system allows, and every connection needs one.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows, where this is no limit
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft


def local_only(sockets: Sequence[socket.socket]) -> bool:
    """Whether only this machine can reach these."""
    return all(is_unix(sock) or ip_address(sock.getsockname()[0]).is_loopback for sock in sockets)


def is_unix(sock: socket.socket) -> bool:
    """Whether it is a UNIX socket. Systems without them have no name for their family, either."""
    return not isinstance(sock.getsockname(), tuple)


def address_of(sock: socket.socket) -> str:
    """Where a listening socket listens, as people write it: `127.0.0.1:8080`, `[::1]:8080` or a path."""
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return os.fsdecode(name)
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
