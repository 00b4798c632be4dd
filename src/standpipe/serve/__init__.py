"""Where everything meets on one request: from the front door to the record of what became of it.

    walk.py           the walk of one ask, for chat and for embeddings: begin here
    admission.py      lets an ask in: what it holds on the way to a slot, and how it gets that and lets go
    ticket.py         how an ask waits for its slot
    lines.py          one fair line for each set of engines that may take an ask
    bodies.py         how a body gets in: memory and the loop's time for large ones
    choices.py        several answers to one request: asks of one client, answered as one
    stream.py         how an answer's events reach the client: streamed with heartbeats, or whole
    trace.py          what is known of one ask: its weight, its wish to wait, its answer's headers, its record
    door.py           which hosts and origins are let in
    front.py          what happens before any handler and after all of them; the table of routes
    exchange.py       one request and its answer; where a failure becomes HTTP
    endpoints.py      the small endpoints beside asks: health, models, token counts
    conversations.py  kept responses, by which `previous_response_id` works
    limits.py         limits as a client sees them: headers, and GET /api/limits
    share.py          signed notes that tell apart those who share an address

Must not know sockets, nor what any format or any engine looks like inside.
"""
