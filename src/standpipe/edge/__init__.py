"""The edge: HTTP/1.1 for strangers. Sockets, parsing, deadlines and limits, and nothing of what a request asks for.

    seam.py             all that a handler sees of HTTP, and the contract with it: begin here
    acceptor.py         accepts, a few connections in each turn of the loop
    server.py           lets them in, sweeps for those that are late, drains
    connection.py       one socket: its phases, its requests, its handler's task
    phases.py           the table of a connection's phases
    reader.py           bytes to heads and bodies, strictly; what is refused, and why
    intake.py           one request's body on its way in
    reply.py            one answer on its way out
    limiter.py          connection limits, by client and by block
    config.py           every deadline and size, with its precedents
    listen.py           listening sockets, TLS, passed descriptors
    proxy_protocol.py   the header with which a proxy says for whom it speaks

It must not know chat, dialects or engines. `standpipe.asgi` puts another server in its place. How it behaves toward
clients is in docs/edge.md.
"""
