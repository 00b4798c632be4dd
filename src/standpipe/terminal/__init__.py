"""What people see in a terminal besides log lines. It knows nothing of how requests are served: it asks, or it prints.

Begin with `repl.py`, a whole client of the public API in one file.

banner.py    the first lines of `standpipe serve`
repl.py      `standpipe chat`
roll.py      `standpipe engines`, over the control socket
top.py       `standpipe top`, over the admin listener
weights.py   `standpipe models`, and a bar while a model is downloaded
"""
