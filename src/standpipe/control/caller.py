"""The command line's end of the operator's socket: find the server, give one order, take its answer. Blocks."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from standpipe.control.orders import Answer, Order, Refused, folders
from standpipe.edge.listen import NO_UNIX_SOCKETS

WITHIN = 30.0
"""Seconds within which an order is obeyed. A new engine is asked what it serves before it joins."""


def find(environ: Mapping[str, str], home: Path) -> Path:
    """The socket of the one server that runs here. Raises Refused, which says what to do, where there is none, where it
    is another user's, and where there are several."""
    if not hasattr(socket, "AF_UNIX"):
        raise Refused(f"a running server cannot be changed here: {NO_UNIX_SOCKETS}")
    live: list[Path] = []
    closed: list[Path] = []
    for folder in folders(environ, home):
        try:
            sockets = sorted(folder.glob("*.sock"))
        except OSError:
            sockets = []
        if not sockets and folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
            closed.append(folder)
        for path in sockets:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(WITHIN)
                try:
                    sock.connect(str(path))
                except PermissionError:
                    closed.append(path)
                except OSError:
                    continue  # a dead one's
                else:
                    live.append(path)
    if len(live) == 1:
        return live[0]
    if live:
        raise Refused(f"several servers run here; choose one with --socket: {', '.join(map(str, live))}")
    if closed:
        raise Refused(f"{closed[0]} belongs to another user: run this as that user or as root")
    raise Refused("no server of this user runs here; start one with `standpipe serve`, or say where with --socket")


def call(path: Path, command: str, arguments: Mapping[str, Any]) -> Any:
    """Give an order. Gives its result. Raises Refused."""
    order = msgspec.json.encode(Order(command, dict(arguments))) + b"\n"
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WITHIN)
            sock.connect(str(path))
            if path.stat().st_uid not in {os.geteuid(), 0} and os.geteuid() != 0:
                raise Refused(f"{path} is another user's")
            sock.sendall(order)
            with sock.makefile("rb") as said:
                line = said.readline()
        answer = msgspec.json.decode(line, type=Answer)
    except PermissionError:
        raise Refused(f"{path} belongs to another user: run this as that user or as root") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise Refused(f"no server listens at {path}; start one with `standpipe serve`") from None
    except TimeoutError:
        raise Refused(f"the server at {path} did not answer within {WITHIN:g} s") from None
    except (OSError, msgspec.DecodeError):
        raise Refused(f"the server at {path} broke off; its log may say why") from None
    if answer.error is not None:
        raise Refused(answer.error)
    return answer.result
