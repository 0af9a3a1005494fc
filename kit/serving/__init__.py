"""Serving: a model behind HTTP, in processes of its own, that survives more traffic than it can do.

A request's way        application → admission → inference_protocol → batching → the model → reply
Generation             application → completions → continuous_batching
What protects it       limits (the process), admission (the queue), refusals (errors for the client)
Processes              server (starts them, from a notebook) → supervisor (replicas) → worker;
                       forking (copies of one process that has imported PyTorch)
How the model travels  packing: a checkpoint or an exported file, in a private folder

`kit.serve(model)` starts a server and gives its address. Two published protocols: the Open
Inference Protocol for tensors, and OpenAI's completions for text.
"""

from __future__ import annotations

from kit.serving.server import Server, serve

__all__ = ["Server", "serve"]
