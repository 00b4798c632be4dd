"""What several processes behind one port cost and bear, beside one process (see bench/README.md).

costs.py      CPU, delay, memory and asks a second of one process and of several, in interleaved rounds
deaths.py     what is lost when a keeper or a worker ends, and in a rolling restart
findings.py   what was found beside what is aimed at
"""
