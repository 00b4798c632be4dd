"""Our HTTP/1.1 client: streams an answer's bytes as they arrive, cancels at once, and costs little.

    client.py      a pool of kept connections to one server: begin here
    transport.py   one connection, and the framing of what comes on it
    url.py         where a server is; which URLs are taken, and what of them may be shown

It must not know chat, engines or clients. Nothing here watches an answer's silence: callers do, by cancelling.
"""
