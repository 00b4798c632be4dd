"""Who answers: an ask in, events out.

    engine.py     what an engine is (`Engine`), and where an answer goes (`Sink`): begin here
    choice.py     which engine an ask gets next, and whether another one after a failure
    pool.py       several engines as one: it makes attempts, and goes on elsewhere when one fails
    seats.py      who gets which engine, and when: a grant is a slot that is taken
    fleet.py      all engines: what they serve, whether they are there
    names.py      what a model's name means: itself, the default, or one that answers in its stead
    timer.py      one timer of the loop, set again and again
    placed.py     an engine as its operator's table places it: public names, share, rank, patience
    member.py     one engine of the fleet, its slots, and a seat on one of them
    attempt.py    one engine's answer on its way to the sink: held back until it says something, watched for silence
    continuation.py  what was sent of an answer whose engine died, and how another one goes on with it
    upstream.py   servers over HTTP: any OpenAI-compatible one, and a native Ollama
    listing.py    what servers tell of their models
    guard/        what stands before an engine: strangers' words made harmless, constrained answers
    llama/        the embedded engine, llama.cpp in a child process
    scripted/     an engine that pretends, for tests and trials

Must not know clients, the line, or how anything is told to a client.
"""
