"""A family of processes for tests: a supervisor whose children do next to nothing, told what by its arguments.

python family.py WORKERS [how ...]      how: ROLE=HOW, of "fails", "hangs", "late", "stubborn", "wordy"; "check=no"
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from standpipe.workers import supervisor
from standpipe.workers.lifeline import Lifeline
from standpipe.workers.supervisor import Part, Supervisor

hows = dict(word.split("=") for word in sys.argv[2:])


def say(*words):
    os.write(2, (" ".join(map(str, words)) + "\n").encode())


async def child(part: Part) -> int:
    how = hows.get(part.role)
    stop, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR2, leave.set)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        loop.add_signal_handler(number, say, part.role, part.number, number.name)
    lifeline = Lifeline(part.lifeline)
    late = how == "late" and not part.first
    if late:
        serve = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, serve.set)
        loop.add_signal_handler(signal.SIGUSR2, say, part.role, "does not listen yet")
        loop.remove_signal_handler(signal.SIGTERM)
    if how == "fails":
        say(part.role, "has a reason")
        return 2
    say(part.role, part.number, "pid", os.getpid())
    if late:
        await serve.wait()
    lifeline.ready()
    if how == "hangs" and part.first:
        time.sleep(1000)  # noqa: ASYNC251 - that is how one hangs
    if how == "wordy":
        for n in range(200):
            os.write(2, b"%d:" % part.number)
            os.write(2, b"%d" % n * 300 + b"\n")
    waits = [asyncio.ensure_future(event.wait()) for event in (stop, leave)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if how == "stubborn":
        await asyncio.sleep(1000)
    say(part.role, part.number, "leaves" if leave.is_set() else "stops")
    lifeline.close()
    return 0


def tell(_level, event, **fields):
    say("*", event, *(f"{name}={value}" for name, value in fields.items()))


if __name__ == "__main__":
    vars(supervisor).update(SILENT=1.5, _OVERTIME=0.3)
    sys.exit(
        Supervisor(
            lambda part: asyncio.run(child(part)),
            int(sys.argv[1]),
            grace=lambda: 0.2,
            tell=tell,
            write=lambda text: say(text.removesuffix("\n")),
            check=lambda: hows.get("check") != "no",
            on_stop=lambda: say("* nobody is started any more"),
        ).run()
    )
