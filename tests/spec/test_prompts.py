"""Weights and breaks of prompts as other programs write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.spec.prompts import has_marks, pieces, plain, word_pattern


def said(prompt: str) -> list[tuple[str, float]]:
    return [(piece.text, round(piece.weight, 6)) for piece in pieces(prompt)]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a (cat:1.3), dog", [("a ", 1), ("cat", 1.3), (", dog", 1)]),
        ("((x)) [y]", [("x", 1.21), (" ", 1), ("y", 0.909091)]),
        ("(a (b:2) c", [("a ", 1.1), ("b", 2.2), (" c", 1.1)]),  # open to the end
        ("a) b]", [("a) b]", 1)]),
        (r"\(x\) (y)", [("(x) ", 1), ("y", 1.1)]),
        ("12:30 (w: .5 )", [("12:30 ", 1), ("w", 0.5)]),
        ("[a:1.3]", [("a:1.3", 0.909091)]),  # a number belongs to round brackets
        ("(a:99) (b:-1)", [("a", 10), (" ", 1), ("b", 0)]),
        ("BREAKFAST", [("BREAKFAST", 1)]),
        ("", []),
    ],
)  # fmt: skip
def test_weights(prompt: str, wanted: list[tuple[str, float]]) -> None:
    assert said(prompt) == wanted


def test_breaks_begin_a_chunk() -> None:
    assert [(p.text, p.breaks) for p in pieces("sea BREAK (a BREAK b:1.2)")] == [
        ("sea ", False), (" ", True), ("a ", False), (" b", True),
    ]  # fmt: skip
    assert plain("sea BREAK (lake:2)").split() == ["sea", "lake"]


@given(st.text(max_size=80))
def test_any_text_is_read_and_what_has_no_marks_is_itself(prompt: str) -> None:
    read = pieces(prompt)
    assert all(0 <= piece.weight <= 10 and math.isfinite(piece.weight) for piece in read)
    if not has_marks(prompt):
        assert plain(prompt) == prompt and all(piece.weight == 1 for piece in read)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a <cat> and EASY, easyneg", ["<cat>", "EASY"]),
        ("a<cat>b easy-2", ["<cat>", "easy-2"]),  # the longest one
        ("uneasy easier", []),
        ("embedding:easy.safetensors, embedding:other", ["easy"]),
        ("", []),
    ],
)
def test_words_of_textual_inversions_stand_by_themselves(text: str, wanted: list[str]) -> None:
    pattern = word_pattern(["<cat>", "easy", "easy-2"])
    assert pattern is not None
    assert [match["word"] for match in pattern.finditer(text)] == wanted
    assert word_pattern([]) is None and word_pattern([""]) is None
