"""IP-Adapter files and their image encoders: what one is made for, told from names, shapes and configs. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lcm_studio.models.files import called, check_sizes, read_header, read_json, weight_files
from lcm_studio.spec.errors import BadRequest, ModelError, StudioError
from lcm_studio.spec.models import ModelInfo

FOLDER = "ip_adapters"  # beside the models
ENCODER = "image_encoder"  # what published repositories call its folder
DEPTH = 3  # folders below `ip_adapters`: a whole published repository may lie there
PARTS = ("image_proj.", "ip_adapter.")


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """`kind`: standard reads the image encoder's pooled answer; plus and full its last layer but one.

    `width`: of the text features beside which it adds its own. `encoder_width`: of what it reads.
    `layers`: its pairs of projections, one for each cross-attention layer of the UNet it was made for.
    """

    kind: Literal["standard", "plus", "full"]
    width: int
    encoder_width: int
    layers: int


def facts_of(path: Path) -> AdapterFacts:
    """What an IP-Adapter file is. Raises ModelError where it is none, or one that cannot be used."""
    if path.is_dir():
        raise ModelError(f"{path.name} is a folder; give the .safetensors file of the IP-Adapter")
    shapes = read_header(path).shapes
    projection, layers = (
        {name.removeprefix(part): shape for name, shape in shapes.items() if name.startswith(part)}
        for part in PARTS
    )
    keys = [name for name in layers if name.endswith(".to_k_ip.weight")]
    if not projection or not keys:
        raise ModelError(
            f"{path.name} is no IP-Adapter (it holds no image_proj and to_k_ip weights); choose another file"
        )
    if _face_id(projection, layers):
        raise ModelError(
            f"{path.name} is a FaceID adapter: it wants the vectors of a face recognition network, which the studio does "
            "not run; use a plus-face adapter in its place"
        )
    width = layers[keys[0]][-1]
    try:
        if "proj.weight" in projection:
            return AdapterFacts(
                kind="standard", width=width, encoder_width=projection["proj.weight"][1], layers=len(keys)
            )  # fmt: skip
        if "proj.3.weight" in projection:
            return AdapterFacts(
                kind="full", width=width, encoder_width=projection["proj.0.weight"][1], layers=len(keys)
            )  # fmt: skip
        projection["latents"]
        return AdapterFacts(
            kind="plus", width=width, encoder_width=projection["proj_in.weight"][1], layers=len(keys)
        )  # fmt: skip
    except (KeyError, IndexError) as error:
        raise ModelError(
            f"{path.name} is no IP-Adapter of a known kind (standard, plus, full); choose another file"
        ) from error


def _face_id(projection: Mapping[str, Any], layers: Mapping[str, Any]) -> bool:
    if (
        any("_lora." in name for name in layers)
        or "perceiver_resampler.proj_in.weight" in projection
    ):
        return True
    known = {"proj.weight", "proj.3.weight"} & projection.keys()
    return not known and "norm.weight" in projection


def fits(facts: AdapterFacts, info: ModelInfo) -> bool:
    """Whether an adapter was made for networks with the text features of a model."""
    return info.takes_control and (not info.text_widths or facts.width == sum(info.text_widths))


def check_fit(path: Path, info: ModelInfo) -> AdapterFacts:
    """The facts of a file. Raises ModelError where it is no IP-Adapter, BadRequest where it was made for another family."""
    facts = facts_of(path)
    if not fits(facts, info):
        raise BadRequest(
            f"{path.name} was made for text features of width {facts.width} (768: Stable Diffusion 1.x, 2048: SDXL), and "
            f"{info.id} has {sum(info.text_widths)}; use an IP-Adapter for this kind of model"
        )
    return facts


def adapter_files(root: Path) -> Iterator[Path]:
    """The `.safetensors` files of a folder `ip_adapters`, those of image encoders left out, sorted."""
    if not root.is_dir():
        return
    for depth in range(DEPTH):
        for path in sorted(root.glob("*/" * depth + "*.safetensors")):
            if not (path.parent / "config.json").is_file():
                yield path


def encoder_config(folder: Path) -> dict[str, Any]:
    """The checked config of an image encoder's folder. Raises ModelError where it is none."""
    config = read_json(folder / "config.json")
    kind = str(config.get("model_type"))
    if kind != "clip_vision_model" or "auto_map" in config:
        raise ModelError(
            f"{called(folder)} is no CLIP image encoder but {kind[:60]!r}; give the folder image_encoder of the IP-Adapter"
        )
    check_sizes(config, f"config.json of {called(folder)}")
    weight_files(folder)
    return config


def reads(facts: AdapterFacts, config: Mapping[str, Any]) -> bool:
    """Whether an adapter reads what an image encoder of that config answers."""
    pooled = facts.kind == "standard"
    width = config.get("projection_dim", 512) if pooled else config.get("hidden_size", 768)
    return bool(width == facts.encoder_width)


def find_encoder(
    path: Path, facts: AdapterFacts, chosen: str, roots: Iterable[Path], model: Path
) -> Path:
    """The folder of the image encoder that an adapter reads: `chosen`, or one that lies near.

    `roots`: folders `ip_adapters`. `model`: whose own folder may hold one. Raises BadRequest or ModelError with the remedy.
    """
    if chosen:
        folder = Path(chosen).expanduser()
        if not folder.is_dir():
            raise BadRequest(
                f"image encoder {chosen[:80]!r} is no folder; leave it out, or give its folder"
            )
        config = encoder_config(folder)
        if not reads(facts, config):
            raise BadRequest(
                f"{path.name} reads an image encoder of width {facts.encoder_width}, and {called(folder)} is another; "
                "give the one that it was trained with"
            )
        return folder
    for folder in _near(path, roots, model):
        try:
            if reads(facts, encoder_config(folder)):
                return folder
        except StudioError:
            continue
    raise BadRequest(
        f"{path.name} reads a CLIP image encoder of width {facts.encoder_width}, and none is there; put its folder as "
        f"{ENCODER}/ beside the file, or give it"
    )


def _near(path: Path, roots: Iterable[Path], model: Path) -> Iterator[Path]:
    """Beside the file, in the folders next to it, in `ip_adapters`, in the model's own folder."""
    bases = [path.parent, path.parent.parent, *roots]
    for base in dict.fromkeys(bases):
        for pattern in (ENCODER, f"*/{ENCODER}", f"*/*/{ENCODER}", "*"):
            for folder in sorted(base.glob(pattern)):
                if (folder / "config.json").is_file():
                    yield folder
    if (model / ENCODER / "config.json").is_file():
        yield model / ENCODER
