"""The line: the queue of asks that wait for an engine slot. Pure: `now` is an argument, in seconds on any clock that
does not go back.

    line.py      joining, leaving, slots, retries, forecasts: what the shell calls
    place.py     one ask's stay
    room.py      how many may wait, and who does
    order.py     who is next: the interface of the orders
    fair.py      the fair order: a tree of groups        group.py    one group, and the theory of its floors
    turns.py     plain round robin and first-come        cost.py     weights, and the bound U
    rules.py     what the operator decides               forecast.py from what is ahead to seconds
"""

from standpipe.policy.line.cost import Reach, Weights
from standpipe.policy.line.forecast import Forecast
from standpipe.policy.line.line import Left, Line, LineStatistics
from standpipe.policy.line.place import Place, State
from standpipe.policy.line.waiting import Bound, NoRoom, Room, TooManyWaiting
from standpipe.policy.line.rules import Policy, Rules

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
