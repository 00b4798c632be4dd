"""The first lines: where it is, a command that works when pasted, who answers and why, and who can reach it."""

from __future__ import annotations

import socket

from standpipe.edge.listen import address_of, is_unix
from standpipe.settings import Settings

_ANY = {"0.0.0.0", "::", ""}  # noqa: S104 - recognised here, not bound


def address(settings: Settings, sock: socket.socket) -> str:
    """Where people reach it, as well as can be known here."""
    if is_unix(sock):
        return "http://localhost"
    scheme = "https" if settings.tls_cert else "http"
    host, port = sock.getsockname()[:2]
    if settings.hosts:
        return f"{scheme}://{settings.hosts[0]}" + ("" if port == 443 else f":{port}")
    if host in _ANY:
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def text(settings: Settings, model: str, sock: socket.socket, reasons: tuple[str, ...], workers: int = 1) -> str:
    """The lines, for a person at a terminal. `reasons` say of each engine what it is."""
    where = address(settings, sock)
    socket_flag = f"--unix-socket {address_of(sock)} " if is_unix(sock) else ""
    body = '{"messages":[{"role":"user","content":"Hello!"}]}'
    lines = [
        f"{settings.name} serves on {where}" + (f" (socket {address_of(sock)})" if socket_flag else ""),
        "",
        f"  curl {socket_flag}-N {where}/api -H 'Content-Type: application/json' -d '{body}'",
        "",
        f"  model    {model}",
        *(f"  engine   {reason}" for reason in reasons),
        f"  access   {_reach(settings, sock)}",
    ]
    if workers > 1:
        lines.append(f"  workers  {workers}, and the queue in a process of its own")
    if settings.admin_port:
        lines.append(f"  admin    http://{settings.admin_host}:{settings.admin_port}/metrics /healthz /readyz")
    lines.append("  stop     Ctrl-C; running answers may finish")
    return "\n".join([*lines, ""])


def _reach(settings: Settings, sock: socket.socket) -> str:
    if is_unix(sock):
        return "anyone with access to the socket"
    host = sock.getsockname()[0]
    if host.startswith("127.") or host == "::1":
        proxies = f", and anyone through {', '.join(settings.trusted_proxies)}" if settings.trusted_proxies else ""
        return f"this machine only{proxies} (--host 0.0.0.0 opens it to the network)"
    return "anyone who can reach this address, without a key; prompts and answers are not stored"
