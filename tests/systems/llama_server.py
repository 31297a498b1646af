"""llama.cpp's own HTTP server on this machine, on one core: ``python llama_server.py MODEL.gguf PORT SECONDS``."""

import sys
import time

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.hostnames = ["127.0.0.1"]
parameters.port = int(sys.argv[2])
parameters.n_ctx, parameters.n_parallel, parameters.warmup = 2048, 2, False
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(parameters)
sys.stdout.write(f"listening on {server.listening_address}\n")
sys.stdout.flush()
time.sleep(float(sys.argv[3]))  # ends by itself whatever becomes of the test
