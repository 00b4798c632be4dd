"""One line for many workers: the keeper, who has it, and how a worker asks. Imported only where there are workers.

    keeper.py    the keeper: it listens, lets a lost keeper's asks stand again, and tells everybody how everything is
    desk.py      one worker's connection at the keeper: what it says becomes calls of what really decides
    errand.py    one ask of a worker's, at the keeper: a stay that tells the worker of its turn
    link.py      the worker's end: it comes back after every loss, and tells again what is open
    claim.py     one ask of a worker's, at the worker: how it waits for its slot and its seats
    remote.py    admission and choice as a worker has them: the same faces, asked over the link
    messages.py  what is told: begin here
    frames.py    how that becomes bytes

What decides is in the keeper's process and is what decides in a single one: `Admission` with its lines and paces, the
`FleetChoice` with its seats. What attempts is in the workers. Workers are the memory: a keeper that dies is replaced by
an empty one, and they tell it what is open and where their clients stood (`policy.line`, *Replay*). So streams go on,
who waits keeps place and age, and nobody is refused.

How to use it, on a UNIX socket of a path that only this machine's tap can open:

    keeper's process    center = Center(settings, engines, log), then `async with center, center.keeper() as keeper`
                        await keeper.listen(path), or keeper.attach(socket) for each worker's end
                        keeper.on_worker = f(pid, presence), told when a worker comes, leaves, or hangs
                        keeper.drain() lets nobody in any more; keeper.hand_over() leaves all to another keeper
                        center.admin answers the operator, for the whole tap
    a worker            async with Link(path, log) as link:
                            await link.welcome()
                            async with App(settings, Outpost(settings, engines, log, link), log, ...) as app:
                        records of its asks, and what it keeps for clients, go to the keeper and to all workers

Must not know HTTP, formats, processes or signals.
"""
