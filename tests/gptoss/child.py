"""The embedded engine with one model, as a process of its own: `child.py MODEL raw|own`.

`raw` hands Harmony over as text; `own` uses llama.cpp's own parser. Prints its address when it listens, and ends when
its standard input does, so that it never outlives whoever started it.
"""

from __future__ import annotations

import os
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.force_pure_content_parser = sys.argv[2] == "raw"
params.n_ctx = 8192
params.n_parallel = 2
params.n_gpu_layers = 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.hostnames = ["127.0.0.1"]
params.port = 0
params.use_jinja = True
params.prefill_assistant = False
params.cache_ram_mib = 0
params.fit_params = params.warmup = params.ui = False
params.verbosity = 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
# The server's destructor waits for connections; there is nothing left to wait for.
os._exit(0)
