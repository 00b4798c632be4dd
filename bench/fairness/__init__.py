"""The fairness bench: the line's own class on virtual time, held against its promises.

watch.py      an independent account of who was served, which finds any gap above the bound
schedules.py  random schedules under that watch: the invariant, as often as wanted
"""
