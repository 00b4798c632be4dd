"""The fairness bench: the line's own class on virtual time, held against its promises. `docs/fairness.md` reads it.

watch.py      an independent account of who was served, which finds any lead above the bound
schedules.py  random schedules under that watch: the bound, as often as wanted
replicas.py   the same with charges that come late, and with lines that are lost
engine.py     modelled engines      world.py    virtual time, a line, an engine and clients that ask
traffic.py    how clients ask       measure.py  from what happened to figures
workloads.py  the named workloads, with targets
vtc.py        plain VTC, to compare phases.py   clients who leave, in each phase
speed.py      how fast the line is  plots.py    the plots
"""
