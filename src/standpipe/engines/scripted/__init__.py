"""The scripted engine: pretends to be one, at a chosen speed and with chosen faults. For tests, demos and benchmarks.

    scripted.py      the engine: plays an answer in the loop's time. Begin here
    script.py        what it is told to do, read from one `scripted:` URL
    composition.py   what it says: pure, the same for the same script and ask

It must not know clients, public formats or any other engine.
"""
