"""The line: the queue of asks that wait for an engine slot. Pure: `now` is an argument, in seconds on any clock that
does not go back.

    place.py   one ask's stay            line.py    joining, leaving, slots, forecasts: the whole interface
    cost.py    weights, and the bound U  order.py   who is next: the interface of the three orders
    room.py    how many may wait         fair.py · turns.py   the orders
"""

from standpipe.policy.line.cost import Reach, Weights
from standpipe.policy.line.line import Forecast, Left, Line, LineStatistics, Policy, Rules
from standpipe.policy.line.place import Place, State
from standpipe.policy.line.room import Bound, NoRoom, Room, TooManyWaiting

__all__ = [
    "Bound",
    "Forecast",
    "Left",
    "Line",
    "LineStatistics",
    "NoRoom",
    "Place",
    "Policy",
    "Reach",
    "Room",
    "Rules",
    "State",
    "TooManyWaiting",
    "Weights",
]
