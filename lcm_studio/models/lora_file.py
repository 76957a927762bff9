"""What a LoRA file holds, read from its header: layers and their parts, layout, and what it says of itself. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lcm_studio.models.files import Header, read_header
from lcm_studio.models.inversion_file import bundled
from lcm_studio.spec.errors import ModelError

PARTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (part, re.compile(pattern))
    for part, pattern in (
        (
            "down",
            r"(?:\.lora_down|\.lora_A(?:\.\w+)?|[._]lora\.down|\.lora_linear_layer\.down)\.weight$",
        ),
        (
            "up",
            r"(?:\.lora_up|\.lora_B(?:\.\w+)?|[._]lora\.up|\.lora_linear_layer\.up)\.weight$",
        ),
        ("mid", r"\.lora_mid\.weight$"),
        ("alpha", r"\.alpha$"),
        ("dora", r"(?:\.dora_scale|\.lora_magnitude_vector(?:\.\w+)?)$"),
        ("hada", r"\.hada_(?:w1_a|w1_b|w2_a|w2_b|t1|t2)$"),
        ("lokr", r"\.lokr_(?:w1|w1_a|w1_b|w2|w2_a|w2_b|t2)$"),
        ("diff", r"\.diff$"),
    )
)
# layers by which a file is known for another method; such a file is refused by its name
OTHERS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("(IA)^3", r"\.on_input$|\.ia3_"),
        ("OFT or BOFT", r"\.oft_|\.oft_blocks$|\.boft_"),
        ("GLoRA", r"\.[ab][12]\.weight$"),
        ("full differences of biases or norms", r"\.(?:diff_b|w_norm|b_norm)$"),
        ("LoRA with biases", r"lora_(?:A|B|down|up)(?:\.\w+)?\.bias$"),
        ("a bundle with textual inversions", r"^bundle_emb\."),
    )
)
BUNDLE = "bundle_emb."
LEFT_OUT = (
    "a bundle with textual inversions",
)  # that cannot be read: the rest of such a file is applied
FEW_STEPS = re.compile(r"time_emb_proj|emb_layers[._]1|time_embedding|time_embed[._]0")
TITLES = {"hada": "LoHa", "lokr": "LoKr", "diff": "full differences", "dora": "DoRA"}


@dataclass(frozen=True, kw_only=True)
class LoraFacts:
    """What the header of a LoRA says.

    `layers`: by name, as the file has it, the parts that it holds. `few_steps`: it changes how the network is told of time, as
    only distillations do. `others`: methods that are not applied. `triggers`: words that it was trained with, those of its own
    textual inversions first.
    """

    layers: Mapping[str, tuple[str, ...]]
    metadata: Mapping[str, str]
    few_steps: bool
    others: tuple[str, ...]
    triggers: tuple[str, ...]

    @property
    def method(self) -> str:
        """LoRA, DoRA, LoHa, LoKr or full differences: the rarest that it uses."""
        parts = {part for found in self.layers.values() for part in found}
        return next((TITLES[part] for part in TITLES if part in parts), "LoRA")


def split_key(key: str) -> tuple[str, str] | None:
    """(layer, part) of a tensor's name; None where it is no part of a LoRA."""
    for part, pattern in PARTS:
        match = pattern.search(key)
        if match:
            return key[: match.start()], part
    return None


def lora_facts(path: Path) -> LoraFacts:
    """The facts of a file. Raises ModelError where it is broken or holds something else than a LoRA."""
    return facts_of(read_header(path), path.name)


def facts_of(header: Header, name: str) -> LoraFacts:
    """The same of a header that was read; `name` is for messages."""
    layers: dict[str, tuple[str, ...]] = {}
    others: dict[str, None] = {}
    words = _bundled_words(header, name)
    for key in header.shapes:
        if words and key.startswith(BUNDLE):
            continue
        method = next((title for title, pattern in OTHERS if pattern.search(key)), None)
        if method is not None:
            others[method] = None
            continue
        split = split_key(key)
        if split is not None:
            layers[split[0]] = (*layers.get(split[0], ()), split[1])
    whole = {layer: parts for layer, parts in layers.items() if set(parts) - {"alpha", "dora"}}
    if not whole:
        raise ModelError(_what_else(header, name, tuple(others)))
    return LoraFacts(
        layers=whole,
        metadata=header.metadata,
        few_steps=any(FEW_STEPS.search(layer) for layer in whole),
        others=tuple(others),
        triggers=tuple(dict.fromkeys((*words, *triggers(header.metadata)))),
    )


def _bundled_words(header: Header, name: str) -> tuple[str, ...]:
    """The words of the textual inversions that the file bundles; none where they cannot be read."""
    try:
        return tuple(facts.words[0] for facts in bundled(Path(name), header))
    except ModelError:
        return ()


def _what_else(header: Header, name: str, others: tuple[str, ...]) -> str:
    """The refusal of a file without LoRA layers, by what it is."""
    keys = tuple(header.shapes)
    if others:
        return f"{name} is {others[0]}, which the studio does not apply; use a LoRA, DoRA, LoHa or LoKr"
    if any("emb_params" in key or "string_to_param" in key for key in keys) or keys in (
        ("clip_l", "clip_g"),
        ("clip_g", "clip_l"),
    ):
        return f"{name} is a textual inversion, no LoRA; give it as one (--embedding) and write its word in the prompt"
    if any(key.startswith(("control_model.", "controlnet_", "input_hint_block")) for key in keys):
        return f"{name} is a ControlNet, no LoRA; it goes into --control"
    if any(key.startswith(("image_proj.", "ip_adapter.")) for key in keys):
        return f"{name} is an IP-Adapter, no LoRA; it goes into --ip-adapter"
    if any(key.startswith(("first_stage_model.", "encoder.", "decoder.")) for key in keys):
        return f"{name} is an autoencoder, no LoRA; it goes into --decoder"
    if any("conv_in.weight" in key or "input_blocks.0.0.weight" in key for key in keys):
        return f"{name} holds the weights of a whole network, no LoRA; it goes into Model (--model)"
    return f"{name} holds no LoRA layers; choose another file"


def triggers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The words that a trainer wrote down: the modelspec's, or the tags on most of the pictures."""
    said = metadata.get("modelspec.trigger_phrase") or metadata.get("ss_trigger_words")
    if said:
        return tuple(word.strip() for word in str(said).split(",") if word.strip())[:8]
    try:
        folders = json.loads(metadata.get("ss_tag_frequency") or "{}")
        counts: dict[str, int] = {}
        for tags in folders.values():
            for tag, count in tags.items():
                counts[str(tag).strip()] = counts.get(str(tag).strip(), 0) + int(count)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ()
    most = max(counts.values(), default=0)
    return tuple(
        tag for tag, count in sorted(counts.items(), key=lambda x: -x[1]) if 2 * count > most
    )[:8]
