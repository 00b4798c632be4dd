"""Who answers: an ask in, events out.

    engine.py     what an engine is (`Engine`), and where an answer goes (`Sink`): begin here
    pool.py       several engines as one: it picks one for each ask, attempts, and fails over
    member.py     one engine of the pool, and all that the pool knows of it
    attempt.py    one engine's answer on its way to the sink: held back until it says something, watched for silence
    upstream.py   servers over HTTP: any OpenAI-compatible one, and a native Ollama
    guard/        what stands before an engine: strangers' words made harmless, constrained answers
    llama/        the embedded engine, llama.cpp in a child process
    scripted/     an engine that pretends, for tests and trials

Must not know clients, the line, or how anything is told to a client.
"""
