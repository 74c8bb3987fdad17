"""Resemblyzer: the embedding of a voice."""

from __future__ import annotations

import numpy as np
from resemblyzer import VoiceEncoder

from tests.real.programs.digest import show

encoder = VoiceEncoder("cpu", verbose=False)
show("embedding", encoder.embed_utterance(np.random.default_rng(0).standard_normal(32000).astype(np.float32) / 10))
