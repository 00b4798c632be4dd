"""The composition root: the only place that constructs and connects.

engines.py   settings to engines        house.py   settings and engines to one running house
run.py       the loop, signals, sockets, draining       check.py   `standpipe check`
"""
