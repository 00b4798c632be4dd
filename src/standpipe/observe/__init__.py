"""What can be seen of a running Standpipe. It only looks: nothing here changes how a request is answered.

Begin with `hooks.py`. It must not know prompts, answers or plain addresses, nor how anything is done.

hooks.py     one record per finished request, and the type of those who want it
log.py       the log: one line per request, one per event; clients by a hash that changes daily
dump.py      what goes on inside right now, for SIGUSR1
outlet.py    text to standard error without ever waiting for its reader
history.py   the last hour in numbers of a fixed size, and the fairness index
metrics.py   counters and histograms, and the page that Prometheus scrapes
about.py     what the server says of itself: one shape for the public, `standpipe top` and OpenAPI
"""
