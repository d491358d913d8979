"""Text for training (corpora, mixtures, tokenizers, token shards) and the scores the project measured itself.

It knows no benchmark and imports none of the project's other packages. Measured scores lie in
``data/scores/``. The other packages find them relative to their own files, never by importing the name
``data``, which a trainer's own folder may hold too.
"""
