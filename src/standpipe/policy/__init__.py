"""Decisions about strangers' asks. Pure: time, randomness and counters are arguments; nothing here awaits or does I/O.

    identity.py   who asks: trusted proxies, client keys            address.py   what sockets and headers write down
    alarm.py      a reverse proxy that nobody told us of            shares.py    several people behind one address
    pace.py       the rate limiter: how far apart asks may start    terms.py     the operator's prompt and max_tokens
    line/         the fair queue for slots                          estimate.py  bytes to tokens, tokens to seconds
    overload.py   load shedding, and how many slots there are       breaker.py   the circuit breaker of an engine
    standing.py   what is believed of an engine, and the choice     retry.py     what follows a failed attempt
    poison.py     asks that kill the engine they run on           affinity.py  where a conversation goes on
    body_budget.py  how much memory large bodies may hold

Knows asks and failures (`chat`), and nothing of formats, engines or HTTP. Begin with `pace`, the shortest, then `line`.
"""
