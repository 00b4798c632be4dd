"""Several processes as one server: who starts whom, and how connections reach them. Only loaded with `--workers`.

    supervisor.py   the parent: starts the keeper and the workers, restarts and replaces them, gathers their log
    meeting.py      where workers find the keeper, whichever it is
    slate.py        what one keeper writes for the next
    lifeline.py     a child's end of the wire to its parent: it beats, and ends with its parent
    channel.py      messages and descriptors over a UNIX socket
    port.py         in the keeper: accepts connections within the limits, and passes each to a worker
    visits.py       in a worker: the connections that were passed to it

Begin with supervisor.py. The keeper holds the one queue, the engines' slots and the limits of connections; the workers
do HTTP, formats and engines. Must not know requests, queues or engines: `standpipe.keeper` does.
"""
