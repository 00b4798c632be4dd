"""The composition root: the only place that constructs and connects. Nothing imports it but `cli`.

Begin with `app.py`. It must not know how anything is done: what is more than a call or a connection lives elsewhere.

center.py     settings and engines to what decides, and what is known of all that happens
outpost.py    the same for a worker, which asks the keeper
app.py        settings and a centre to handlers
run.py        `standpipe serve`: from the settings to an orderly end
processes.py  `--workers`: what the keeper and a worker do
servers.py    what stands before handlers, from the settings
runtime.py    what every process does: loop, signals, log, sockets
reload.py     SIGHUP: settings and certificate, again
engines.py    the setting `engine` to engines
roster.py     which engine is which one of the settings, and how the fleet changes while the server runs
commands.py   what an operator may order while the server runs
embedded.py   the embedded engine from its name: which weights, whether they fit, and llama.cpp started on them
check.py      `standpipe check`
doubts.py     settings that are allowed and probably not meant
"""
