"""The embedded engine: llama.cpp in a child process of ours.

    llama.py     the engine: starts, restarts and ends the child, and decides which. Begin here
    life.py      one life of the child: launched, warmed, watched; its private folder
    process.py   any child process: started, heard out, and ended for certain
    child.py     the program inside that process

It must not know clients, the queue or which model is wanted (`models`, `app.embedded`).
"""
