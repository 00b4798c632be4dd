"""llama.cpp's own server, as it comes out of the wheel: `llama_server.py MODEL PORT [embeddings]`."""

from __future__ import annotations

import signal
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {"smollm2"}
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
params.n_ctx = 4096
params.n_parallel = 2
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
params.n_gpu_layers = 0
params.use_jinja = True
params.kv_unified = False
params.endpoint_slots = True
params.ui = params.fit_params = False
if "embeddings" in sys.argv[3:]:
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
while True:
    signal.pause()
