"""What the scripts beside this one share: where the servers are, and how a client's scenes are played.

    python with_LIBRARY.py CLIENT:SCENE,SCENE,... ...

The test gives the addresses by environment variables. Each server has engines for this client alone, by the client's
name: CLIENT-plain reasons four tokens, calls get_weather in three turns where it is declared, and says twelve words;
CLIENT-slow does it slowly, one ask at a time and with one call. A line of JSON tells how each scene went.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

HOUSE = os.environ["HOUSE"]
"""Serves whoever asks; a heartbeat comes after an instant of silence."""
PACED = os.environ["PACED"]
"""Refuses who asks too fast with 429."""
NARROW = os.environ["NARROW"]
"""Refuses who comes when one runs and one waits with 503."""


class Me:
    """Whose scenes are played now, and the models that it alone asks for."""

    name: str
    plain = property(lambda self: f"{self.name}-plain")
    slow = property(lambda self: f"{self.name}-slow")
    broken = property(lambda self: f"{self.name}-broken")


me = Me()
WORDS = 12
CALLS = 3


def words(text: str) -> int:
    return len(text.split())


def at_once(count: int, ask: Callable[[], Any]) -> list[Any]:
    """Ask several times at a time."""
    with ThreadPoolExecutor(count) as threads:
        return [one.result() for one in [threads.submit(ask) for _ in range(count)]]


def error_of(ask: Callable[[], Any]) -> Any:
    """The error that asking ends with. Half an answer must never look whole, nor a refused request served."""
    try:
        answer = ask()
    except Exception as error:  # noqa: BLE001  # the clients' own are of all kinds
        return error
    raise AssertionError(f"no error: {answer}")


def play(scenes: Mapping[str, Callable[[], None]]) -> None:
    """Play the scenes that the command line names, for one client after another."""
    for argument in sys.argv[1:]:
        me.name, _, names = argument.partition(":")
        for name in names.split(","):
            fault = None
            try:
                scenes[name]()
            except Exception:  # noqa: BLE001  # the clients' own are of all kinds
                fault = traceback.format_exc()
            print(json.dumps({"client": me.name, "scene": name, "fault": fault}), flush=True)
