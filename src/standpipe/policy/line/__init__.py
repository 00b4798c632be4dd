"""The line: the fair queue of asks that wait for an engine slot. Pure: `now` is an argument, in seconds on any clock
that does not go back.

    line.py      joining, leaving, slots, retries, forecasts: what the shell calls; begin here
    waiting.py   one ask's stay, how much may wait, the refusals, and when they end
    rules.py     what the operator decides: weights, limits, caps, and the bound U
    fair.py      who is next: a tree of groups over blocks, clients and shares
    group.py     one group, and the theory of its virtual time, of charges that lag and of lines that are lost
    forecast.py  from what is ahead to seconds
"""

from standpipe.policy.line.forecast import Forecast
from standpipe.policy.line.group import Standing
from standpipe.policy.line.line import Left, Line, LineStatistics
from standpipe.policy.line.rules import LargestAsk, QueueLimits, Rules, Weights
from standpipe.policy.line.waiting import Appointments, Limit, QueuedAsk, QueueFull, Stage, TooManyWaiting

__all__ = [
    "Appointments",
    "Forecast",
    "LargestAsk",
    "Left",
    "Limit",
    "Line",
    "LineStatistics",
    "QueueFull",
    "QueueLimits",
    "QueuedAsk",
    "Rules",
    "Stage",
    "Standing",
    "TooManyWaiting",
    "Weights",
]
