"""The operator's own way in: a UNIX socket that only the server's user (and root) can open, one order for a connection.

    orders.py    what is said: one line of JSON each way; and where the socket lies: begin here
    listener.py  the server's end
    caller.py    the command line's end

A command is a line in `app/commands.py`. Must not know engines, clients, nor what any command does.
"""
