"""Weights and breaks in a prompt, as common programs write them. No torch.

(words)        1.1 times the attention; ((words)) 1.21 times
[words]        1 / 1.1 of it
(words:1.3)    1.3 times
\\( \\) \\[ \\] \\\\ the character itself
BREAK          what follows begins a new chunk of tokens
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

UP, DOWN = 1.1, 1 / 1.1
MOST_WEIGHT = 10.0
_TOKEN = re.compile(
    r"\\[()\[\]\\]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[()\[\]]|\bBREAK\b|[^\\()\[\]:B]+|.",
    re.DOTALL,
)
_MARKS = re.compile(r"[()\[\]\\]|\bBREAK\b")


@dataclass(frozen=True)
class Piece:
    """Words of one weight. `breaks`: a new chunk begins before it."""

    text: str
    weight: float = 1.0
    breaks: bool = False


def has_marks(prompt: str) -> bool:
    """Whether a prompt says more than its words; one that does not is encoded as stock diffusers does."""
    return _MARKS.search(prompt) is not None


def pieces(prompt: str) -> tuple[Piece, ...]:
    """The words of a prompt with their weights, neighbours of one weight together.

    Brackets that are not closed count to the end of the prompt; closing ones that nothing opened are words. Weights are
    held to 0 to 10.
    """
    out: list[list[object]] = []  # text, weight, breaks
    opened: list[tuple[str, int]] = []  # kind of bracket, number of pieces before it

    def weigh(start: int, factor: float) -> None:
        for piece in out[start:]:
            piece[1] = float(piece[1]) * factor  # type: ignore[arg-type]

    breaks = False
    for match in _TOKEN.finditer(prompt):
        token, number = match.group(0), match.group(1)
        if number is not None and opened and opened[-1][0] == "(":
            weigh(opened.pop()[1], float(number))
        elif token in ("(", "["):
            opened.append((token, len(out)))
        elif token == ")" and opened and opened[-1][0] == "(":
            weigh(opened.pop()[1], UP)
        elif token == "]" and opened and opened[-1][0] == "[":
            weigh(opened.pop()[1], DOWN)
        elif token == "BREAK":
            breaks = True
        else:
            text = (
                token[1] if len(token) == 2 and token[0] == "\\" and token[1] in "()[]\\" else token
            )
            out.append([text, 1.0, breaks])
            breaks = False
    for kind, start in reversed(opened):
        weigh(start, UP if kind == "(" else DOWN)
    merged: list[Piece] = []
    for words, weight, new in out:
        value = min(max(float(weight), 0.0), MOST_WEIGHT)  # type: ignore[arg-type]
        if merged and not new and math.isclose(merged[-1].weight, value):
            merged[-1] = Piece(merged[-1].text + str(words), value, merged[-1].breaks)
        else:
            merged.append(Piece(str(words), value, bool(new)))
    return tuple(merged)


def word_pattern(words: Iterable[str]) -> re.Pattern[str] | None:
    """Matches each of `words` that stands by itself, in small or large letters, as group `word`; None without words.

    They are the words of textual inversions. ComfyUI's `embedding:WORD` is one too.
    """
    longest = sorted({word for word in words if word}, key=lambda word: (-len(word), word))
    if not longest:
        return None
    each = "|".join(
        (r"(?<!\w)" if re.match(r"\w", word) else "")
        + re.escape(word)
        + (r"(?!\w)" if re.search(r"\w$", word) else "")
        for word in longest
    )
    return re.compile(rf"(?:(?<!\w)embedding:)?(?P<word>{each})(?:\.safetensors\b)?", re.IGNORECASE)


def plain(prompt: str) -> str:
    """The words of a prompt without its marks."""
    return "".join(("\n" if piece.breaks else "") + piece.text for piece in pieces(prompt))
