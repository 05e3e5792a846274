"""Leaves speech out of docling-slim, and torch, which is larger than all the rest, with it.

docling-slim 2.143 imports this one module of its own without asking whether torch is there, where
all others do. Python imports `sitecustomize` at its start, from PYTHONPATH. Remove this, and the
words about it in docs/clients.md, when a version without it passes.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

if find_spec("torch") is None:
    speech = ModuleType("docling.pipeline.asr_transformers")
    vars(speech)["TransformersAsrDecoder"] = None
    sys.modules[speech.__name__] = speech
