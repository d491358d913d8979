"""A small trainer that runs a suite inside its loop, on the mean of its last snapshots.

The one package that may import all the others (``data``, ``evalsuite``, ``scaling``). It needs the extra
``train`` (torch, tokenizers, safetensors). The training core is not there yet.
"""
