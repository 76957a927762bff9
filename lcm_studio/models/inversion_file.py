"""What a textual inversion holds, read from its header: its words, and the vectors of each text encoder. No torch.

| layout | tensors | its word |
|---|---|---|
| diffusers (`learned_embeds.safetensors`) | one, named by the token | the token, and the file's name |
| AUTOMATIC1111 | `emb_params` | the file's name |
| SDXL | `clip_l` and `clip_g` | the file's name |
| diffusers, SDXL | `learned_embeds` and beside it `learned_embeds_2` | the token |
| in a LoRA (kohya) | `bundle_emb.WORD.` before the names of AUTOMATIC1111's or SDXL's | WORD |
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from lcm_studio.models.files import Header, read_header
from lcm_studio.spec import limits
from lcm_studio.spec.errors import ModelError

MOST_VECTORS = 75  # what fits between start and end of CLIP's 77 tokens
# names of a tensor that are no token
UNNAMED = ("emb_params", "*", "clip_l", "clip_g", "string_to_param", "string_to_param.*")
PAIRS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
# names that scripts give every file; the folder's name speaks
PLAIN_STEMS = frozenset(["learned_embeds", "embedding", "embeddings", "textual_inversion"])
SECOND = "_2"
BUNDLED = re.compile(
    r"bundle_emb\.(?P<word>.+?)\.(?P<tensor>string_to_param\.\*|emb_params|clip_l|clip_g)"
)
PARAMETER = re.compile(r"\.(?:weight|bias|alpha|diff)$")  # of a network, and no token


@dataclass(frozen=True, kw_only=True)
class InversionFacts:
    """`words`: what stands for it in a prompt. `tensors`: (file, name) of its vectors, one for each text encoder.

    `widths`: of a vector, for each text encoder. `vectors`: how many tokens it takes.
    """

    path: Path
    words: tuple[str, ...]
    tensors: tuple[tuple[Path, str], ...]
    widths: tuple[int, ...]
    vectors: int


def inversion_facts(path: Path, part: str = "") -> InversionFacts:
    """The facts of a file, or of the one that a LoRA file has by the word `part`.

    Raises ModelError where it is broken or holds something else.
    """
    header = read_header(path)
    if not part:
        return facts_of(path, header, path.name)
    for facts in bundled(path, header):
        if facts.words == (part,):
            return facts
    raise ModelError(f"{path.name} holds no textual inversion {part}; choose another file")


def bundled(path: Path, header: Header) -> tuple[InversionFacts, ...]:
    """The textual inversions in a LoRA file, each with its word. Raises ModelError where one is broken."""
    names: dict[str, dict[str, str]] = {}
    for key in header.shapes:
        match = BUNDLED.fullmatch(key)
        if match and len(match["word"]) <= limits.MAX_WORD:
            names.setdefault(match["word"], {})[match["tensor"]] = key
    out = []
    for word, tensors in names.items():
        chosen = [tensors[name] for name in PAIRS[0] if name in tensors] or [*tensors.values()][:1]
        widths, vectors = _sizes([header.shapes[key] for key in chosen], path.name)
        out.append(
            InversionFacts(
                path=path, words=(word,), tensors=tuple((path, key) for key in chosen), widths=widths, vectors=vectors
            )
        )  # fmt: skip
    return tuple(out)


def _sizes(shapes: Sequence[tuple[int, ...]], name: str) -> tuple[tuple[int, ...], int]:
    """(width for each text encoder, vectors) of tensors of these shapes. Raises ModelError where they are none of an inversion."""
    sizes = [(1, *shape) if len(shape) == 1 else shape for shape in shapes]
    if any(len(size) != 2 or not 1 <= size[0] <= MOST_VECTORS or size[1] < 1 for size in sizes):
        raise ModelError(
            f"{name} holds a tensor of {' x '.join(map(str, sizes[0]))}, and a textual inversion has 1 to {MOST_VECTORS} "
            "vectors; choose another file"
        )
    if len({size[0] for size in sizes}) > 1:
        raise ModelError(
            f"{name} holds {sizes[0][0]} vectors for one text encoder and {sizes[1][0]} for the other; download it again"
        )
    return tuple(size[1] for size in sizes), sizes[0][0]


def facts_of(path: Path, header: Header, name: str) -> InversionFacts:
    """The same of a header that was read. `name`: of the file, for its word and for messages."""
    named = Path(name)
    tensors: tuple[tuple[Path, str], ...]
    keys = tuple(header.shapes)
    pair = next((pair for pair in PAIRS if set(keys) == set(pair)), None)
    token = ""
    if pair is not None:
        tensors = tuple((path, key) for key in pair)
        shapes = [header.shapes[key] for key in pair]
    elif is_inversion(keys) and header.dtypes[keys[0]].startswith(("F", "BF")):
        tensors, shapes = ((path, keys[0]),), [header.shapes[keys[0]]]
        token = "" if keys[0] in UNNAMED else keys[0].strip()
        second = path.with_name(f"{path.stem}{SECOND}{path.suffix}")
        if second.is_file():
            other = read_header(second)
            if token and tuple(other.shapes) == keys and other.shapes != header.shapes:
                tensors = (*tensors, (second, keys[0]))
                shapes += other.shapes.values()
    else:
        raise ModelError(f"{name} is no textual inversion; choose another file")
    widths, vectors = _sizes(shapes, name)
    return InversionFacts(
        path=path,
        words=_words(token, named),
        tensors=tensors,
        widths=widths,
        vectors=vectors,
    )


def _words(token: str, file: Path) -> tuple[str, ...]:
    stem = file.stem.strip()
    if stem.lower() in PLAIN_STEMS:
        stem = "" if token else file.parent.name
    words = (word for word in (token, stem) if word and len(word) <= limits.MAX_WORD)
    return tuple(dict.fromkeys(words))


def is_inversion(keys: Collection[str]) -> bool:
    """Whether tensors of these names are a textual inversion rather than a LoRA or a network."""
    if any(set(keys) == set(pair) for pair in PAIRS):
        return True
    return len(keys) == 1 and PARAMETER.search(next(iter(keys))) is None
