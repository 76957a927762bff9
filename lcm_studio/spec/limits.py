"""The bounds of every request, in one place."""

from __future__ import annotations

MAX_STEPS = 50  # of samplers that jump; MAX_EVALUATIONS: of those that follow the score
MAX_COUNT = 16
MIN_SIDE = 16
MAX_SIDE = 2048
MAX_PIXELS = 2048 * 2048
MAX_PROMPT = 2000
MAX_SEED = 2**53 - 1
MAX_GUIDANCE = 30.0
MAX_LORAS = 8
MAX_EMBEDDINGS = 32
MAX_WORD = 100  # letters of a textual inversion's word
MAX_CLIP_SKIP = 12
MAX_CLASSES = 100_000
MAX_CONTROL = 2.0
MAX_CONTROL_PIXELS = 32_000_000
MAX_LORA_WEIGHT = 4.0
MAX_EVALUATIONS = 1000
