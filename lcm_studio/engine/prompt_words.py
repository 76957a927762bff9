"""What of a prompt the model does not know, or other programs would read otherwise."""

from __future__ import annotations

import difflib
import re

from lcm_studio.spec.models import ModelInfo

WEIGHTS = (
    (re.compile(r"\([^()]*:\s*[\d.]+\s*\)"), "{}"),
    (re.compile(r"\bBREAK\b"), "{}"),
)
SYNTAX = (
    (re.compile(r"<(?:lora|lyco|hypernet):[^>]*>"), "{} (choose the file as a LoRA instead)"),
    (re.compile(r"\bAND\b"), "{}"),
    (re.compile(r"__[\w/-]+__"), "{} (a wildcard)"),
    (re.compile(r"\{[^{}|]*\|[^{}]*\}"), "{} (a choice)"),
    (re.compile(r"\[[^\[\]]*:[^\[\]]*:\s*[\d.]+\s*\]"), "{} (a change of prompt)"),
    (re.compile(r"\bembedding:\S+"), "{} (no textual inversion of that name is there)"),
)


def foreign_syntax(prompt: str, *, weights: bool = False) -> tuple[str, ...]:
    """What of a prompt other programs read as more than words, as it stands there, once each.

    `weights`: the model takes weights and breaks (`spec.prompts`).
    """
    found: dict[str, None] = {}
    for pattern, text in SYNTAX if weights else (*WEIGHTS, *SYNTAX):
        for match in pattern.finditer(prompt):
            found[text.format(match.group(0)[:60])] = None
    return tuple(found)


def unknown_words(prompt: str, info: ModelInfo) -> tuple[str, ...]:
    """Words of `prompt` outside the model's vocabulary, with the nearest known one in brackets."""
    if not info.vocabulary:
        return ()
    known = {
        word
        for _, phrases in info.vocabulary
        for phrase in phrases
        for word in re.findall(r"[^\W\d_]+", phrase.lower())
    }
    glue = set(info.glue)
    found: dict[str, None] = {}
    for word in re.findall(r"[^\W\d_]+", prompt.lower()):
        if word in known or word in glue:
            continue
        near = difflib.get_close_matches(word, known, n=1, cutoff=0.75)
        found[f"{word} ({near[0]}?)" if near else word] = None
    return tuple(found)
