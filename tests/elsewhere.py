"""Another system, pretended: Python without what Windows or macOS does not have.

    python -m tests.elsewhere windows                  imports every module
    python -m tests.elsewhere windows serve [...]      runs the command line

Others' libraries are loaded first, because they know better than this what they may use. `sys.platform` stays: our own
code asks for what it needs, not for names of systems.
"""

import asyncio
import importlib
import multiprocessing.connection
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import platformdirs
import prometheus_client
import rich.console

LOADED = asyncio, multiprocessing.connection, platformdirs, prometheus_client, rich.console, subprocess, tempfile
"""They choose by system when they are imported."""
LACKS = {
    "windows": {
        "modules": ("fcntl", "grp", "pwd", "readline", "resource", "termios", "tty", "uvloop"),
        socket: (
            "AF_UNIX", "MSG_CMSG_CLOEXEC", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SCM_RIGHTS", "SOCK_SEQPACKET",
            "SO_PEERCRED", "SO_REUSEPORT", "TCP_NOTSENT_LOWAT", "recv_fds", "send_fds",
        ),
        signal: ("SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pause"),
        select: ("PIPE_BUF", "epoll", "poll"),
        os: (
            "O_NOCTTY", "O_NONBLOCK", "fchmod", "fork", "getegid", "geteuid", "getgid", "getuid", "killpg",
            "memfd_create", "sched_getaffinity", "setsid", "sysconf", "ttyname", "uname", "waitid",
        ),
    },
    "macos": {
        "modules": (),
        socket: ("SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_PEERCRED", "TCP_NOTSENT_LOWAT", "MSG_CMSG_CLOEXEC"),
        signal: (),
        select: ("epoll",),
        os: ("memfd_create", "sched_getaffinity"),
    },
}  # fmt: skip


def _none(*_):
    raise NotImplementedError


def pretend(system):
    """From here on, this process lacks what `system` lacks."""
    lacks = LACKS[system]
    socket.socketpair = partial(socket.socketpair, socket.AF_UNIX)  # a loop's own, which Windows makes over TCP
    for name in lacks["modules"]:
        sys.modules[name] = None  # to import it is an ImportError
    for module in (socket, signal, select, os):
        for name in lacks[module]:
            if hasattr(module, name):
                delattr(module, name)
    if system == "windows":
        loop = asyncio.SelectorEventLoop
        loop.add_signal_handler = loop.remove_signal_handler = _none
        loop.create_unix_connection = loop.create_unix_server = _none
    read = Path.read_bytes, Path.read_text

    def hidden(original):
        def look(path, *args, **kwargs):
            if str(path).startswith(("/proc/", "/sys/")):
                raise FileNotFoundError(str(path))
            return original(path, *args, **kwargs)

        return look

    Path.read_bytes, Path.read_text = map(hidden, read)


def every_module():
    """Their names; none starts anything when it is imported."""
    import standpipe

    found = pkgutil.walk_packages(standpipe.__path__, "standpipe.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def main():
    system, *words = sys.argv[1:]
    pretend(system)
    if words:
        from standpipe.cli import main as command

        command(words)
    names = every_module()
    for name in names:
        importlib.import_module(name)
    print(len(names))


if __name__ == "__main__":
    main()
