"""Compares a distilled model, its teacher and real scenes over held-out captions.

Every picture set is made once and kept under OUT/cells, so a run that was cut short goes on
where it stopped. OUT receives evaluation.json, evaluation.md and sheet.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from training.scenery.evaluation.cells import Cell, CellResult
    from training.scenery.evaluation.features import FeatureNet

SHEET_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to compare, and over how much."""

    model: Path | None = None
    teacher: Path | None = None
    features: Path = Path("assets/models/scenery-features")
    out: Path = Path("runs/evaluation")
    count: int = 1000
    reference: int = 4000
    guidance: float = 0.0  # guidance scale, 1 + w; 0 = what the folder says, or 2.5
    guidance_start: float | None = (
        None  # of the teacher, share of the way; None = what its folder says
    )
    batch: int = 50
    seed: int = 0
    spacing: str = "trailing"
    edition: int = 2  # of the scenes
    first: int = 0  # held-out scenes to pass over
    device: str = "cpu"
    only: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if min(self.count, self.reference) < 16 or self.batch < 1:
            raise ValueError(
                f"count={self.count}, reference={self.reference}, batch={self.batch}: "
                "use 16 pictures or more in batches of 1 or more"
            )
        if self.first < 0:
            raise ValueError(f"first={self.first} is negative; use 0 or more")
        if self.guidance_start is not None and not 0 <= self.guidance_start <= 0.9:
            raise ValueError(f"guidance_start={self.guidance_start} is out of range; use 0 to 0.9")
        if self.guidance and self.guidance < 1:
            raise ValueError(
                f"guidance={self.guidance} is below 1, which means none; use 1 or more"
            )


def own_guidance(folder: Path | None, otherwise: float = 2.5) -> float:
    """The guidance scale that a model's folder sets out with."""
    return float(_said(folder).get("guidance", {}).get("default", otherwise))


def own_start(folder: Path | None) -> float:
    """The share of the way from noise that a model's folder wants without guidance."""
    return float(_said(folder).get("guidance", {}).get("start", 0.0))


def own_steps(folder: Path | None) -> dict[str, float]:
    """What an LCM's folder sets out with: the shift of its timesteps, its share of fresh noise. Stock has 1 of both."""
    said = _said(folder)
    return {"shift": float(said.get("shift", 1)), "eta": float(said.get("eta", 1))}


def _said(folder: Path | None) -> dict[str, Any]:
    about = folder / "studio.json" if folder else None
    if about is None or not about.is_file():
        return {}
    said: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
    return said


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Makes or recalls every cell, writes the three files, returns what evaluation.json holds."""
    if not config.guidance:
        config = replace(config, guidance=own_guidance(config.model or config.teacher))
    if config.guidance_start is None:
        config = replace(config, guidance_start=own_start(config.teacher))
    from training.scenery.dataset import HELD_OUT_SEEDS, arrays
    from training.scenery.evaluation.cells import as_tensors, fingerprint, in_pixels, table_cells
    from training.scenery.evaluation.features import load_features
    from training.scenery.sampling import sample_scene
    from training.scenery.scene import labels

    net = load_features(config.features)
    maker = _Maker(config, net)
    # clear of the scenes that the features were checked on
    first = HELD_OUT_SEEDS.start + 10**6 + config.first
    prompts = range(first, first + config.count)
    real, captions = arrays(prompts, maker.side, edition=config.edition)
    pixels = bool(config.model) and in_pixels(maker.pipe("model"))
    if pixels:  # it is told the time of day and nothing else
        captions = [labels(sample_scene(seed, config.edition))["time"] for seed in prompts]
    marks = {
        "features": fingerprint(config.features),
        "model": fingerprint(config.model) if config.model else "",
        "teacher": fingerprint(config.teacher) if config.teacher else "",
    }
    whole = float(np.mean([_detail(x) for x in as_tensors(real, 1)]))
    anchor = maker.reference(first + config.count, marks["features"])
    rows: list[dict[str, Any]] = []
    samples: dict[str, np.ndarray] = {}
    cells = table_cells(model=bool(config.model), teacher=bool(config.teacher), pixels=pixels)
    for cell in cells:
        if config.only and cell.name not in config.only:
            continue
        result = maker.result(cell, real, captions, marks)
        rows.append(_row(cell, result, anchor, captions, net, config, whole))
        samples[cell.name] = result.samples
        _say(f"{cell.name}: distance {rows[-1]['frechet']:.2f}, "
             f"agreement {rows[-1]['agreement']:.3f}, "
             f"detail {rows[-1]['detail']:.2f}")  # fmt: skip
    about: dict[str, Any] = {
        "count": config.count, "reference": config.reference, "guidance": config.guidance, "guidance_start": config.guidance_start, "spacing": config.spacing,
        "seed": config.seed, "edition": config.edition, "size": maker.side, "autoencoder": maker.fidelity(real),
    }  # fmt: skip
    return _write(config, rows, samples, captions, about)


class _Maker:
    """Makes cells, loading each pipeline when it is first wanted."""

    def __init__(self, config: EvaluateConfig, net: FeatureNet) -> None:
        from training.scenery.evaluation.cells import picture_side

        self.config, self.net = config, net
        self.pipes: dict[str, Any] = {}
        source = "model" if config.model else "teacher"
        known = config.model or config.teacher
        self.side = picture_side(self.pipe(source)) if known else net.config.size

    def pipe(self, source: str) -> Any:
        """The pipeline of "model" or "teacher"."""
        from training.scenery.evaluation.cells import load_pipeline

        if source not in self.pipes:
            folder = self.config.model if source == "model" else self.config.teacher
            assert folder is not None
            self.pipes[source] = load_pipeline(folder, self.config.device)
        return self.pipes[source]

    def measure(self, batches: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray, float]:
        """Features (N, D) of all pictures, the first few as uint8, and the mean power of fine detail."""
        features: list[np.ndarray] = []
        samples: list[np.ndarray] = []
        detail: list[float] = []
        for images in batches:
            detail.append(_detail(images) * len(images))
            features.append(self.net.embed(images).cpu().numpy())
            if sum(len(some) for some in samples) < SHEET_COLUMNS:
                pixels = (images.clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1).cpu().numpy()
                samples.append(pixels[:SHEET_COLUMNS])
        every = np.concatenate(features)
        return every, np.concatenate(samples)[:SHEET_COLUMNS], sum(detail) / len(every)

    def reference(self, first: int, features: str) -> np.ndarray:
        """Features of the real scenes that every row is compared with: seeds `first` and on."""
        from training.scenery.dataset import arrays
        from training.scenery.evaluation.cells import Cell, CellResult, as_tensors, cached

        config = self.config
        seeds = range(first, first + config.reference)
        blocks = [seeds[i : i + config.batch] for i in range(0, len(seeds), config.batch)]

        def make() -> CellResult:
            pictures = (arrays(block, self.side, edition=config.edition)[0] for block in blocks)
            made = (x for block in pictures for x in as_tensors(block, config.batch))
            values, samples, detail = self.measure(_counted(made, "reference", len(seeds)))
            return CellResult(features=values, samples=samples, detail=detail, seconds=0.0)

        cell = Cell(name="reference", source="real", sampler="none", steps=0)
        probe = _digest(arrays(seeds[:4], self.side, edition=config.edition)[0])
        settings = {"seeds": [seeds.start, seeds.stop], "size": self.side, "features": features}
        return cached(config.out / "cells", cell, {**settings, "scenes": probe}, make).features

    def result(
        self, cell: Cell, real: np.ndarray, captions: Sequence[str], marks: dict[str, str]
    ) -> CellResult:
        """The cell, from the cache where it is there."""
        from training.scenery.evaluation.cells import CellResult, cached

        config = self.config
        source = cell.source if cell.source in ("model", "teacher") else ""
        if cell.source == "autoencoder":
            source = "model" if config.model else "teacher"
        settings: dict[str, Any] = {
            "count": config.count, "size": self.side, "features": marks["features"],
            "weights": marks.get(source, ""), "scenes": _digest(real),
        }  # fmt: skip
        if cell.source in ("model", "teacher"):
            settings |= {"guidance": config.guidance, "seed": config.seed}
        if cell.source == "teacher":
            settings |= {"spacing": config.spacing}
            if config.guidance_start:
                settings |= {"guidance_start": config.guidance_start}
        if cell.source == "model":
            settings |= {k: v for k, v in own_steps(config.model).items() if v != 1}

        def make() -> CellResult:
            began = time.perf_counter()
            features, samples, detail = self.measure(self._pictures(cell, real, captions))
            return CellResult(
                features=features,
                samples=samples,
                detail=detail,
                seconds=time.perf_counter() - began,
            )

        return cached(config.out / "cells", cell, settings, make)

    def _pictures(self, cell: Cell, real: np.ndarray, captions: Sequence[str]) -> Iterable[Tensor]:
        from training.scenery.evaluation.cells import as_tensors, reconstruct, sample, use_sampler

        config = self.config
        if cell.source == "real":
            return as_tensors(real, config.batch)
        if cell.source == "autoencoder":
            return reconstruct(
                self.pipe("model" if config.model else "teacher"), real, config.batch
            )
        pipe = self.pipe(cell.source)
        if cell.source == "teacher":
            use_sampler(pipe, cell.sampler, config.spacing)
        made: Iterable[Tensor] = sample(
            pipe, captions, steps=cell.steps, guidance=config.guidance, seed=config.seed,
            batch=config.batch, **own_steps(config.model if cell.source == "model" else None),
        )  # fmt: skip
        if cell.source == "teacher" and config.guidance > 1:
            made = _late(pipe, config.guidance_start or 0.0, made)
        return _counted(made, cell.name, len(captions))

    def fidelity(self, real: np.ndarray, count: int = 200) -> dict[str, float]:
        """Mean PSNR and SSIM of the autoencoder over the first scenes."""
        import torch

        from training.metrics import psnr, ssim
        from training.scenery.evaluation.cells import as_tensors, in_pixels, reconstruct

        source = "model" if self.config.model else "teacher"
        if not self.pipes or in_pixels(self.pipe(source)):
            return {}
        few, batch = real[:count], self.config.batch
        pairs = zip(as_tensors(few, batch), reconstruct(self.pipe(source), few, batch), strict=True)
        values = [(psnr(x, y), ssim(x, y)) for x, y in pairs]
        return {
            "PSNR in dB": float(torch.cat([p for p, _ in values]).mean()),
            "SSIM": float(torch.cat([s for _, s in values]).mean()),
        }


def _row(
    cell: Cell, result: CellResult, anchor: np.ndarray, captions: Sequence[str], net: FeatureNet,
    config: EvaluateConfig, whole: float,
) -> dict[str, Any]:  # fmt: skip
    import torch

    from training.metrics import frechet, pairwise_diversity
    from training.scenery.evaluation.agreement import agreement_by_attribute, prompt_agreement
    from training.scenery.evaluation.features import FAULT_SCALE

    features = torch.from_numpy(result.features)
    shown = net.attributes_of(features)
    with torch.no_grad():
        grain = float(net.faults(features)[:, 0].mean()) * FAULT_SCALE[0]
    return {
        "name": cell.name, "source": cell.source, "sampler": cell.sampler, "steps": cell.steps,
        "evaluations": cell.evaluations(config.guidance, config.guidance_start or 0.0),
        "frechet": frechet(result.features, anchor),
        "agreement": prompt_agreement(captions, shown),
        "agreement_by_attribute": agreement_by_attribute(captions, shown),
        "detail": result.detail / whole, "grain": max(0.0, grain), "diversity": pairwise_diversity(result.features),
        "seconds_per_picture": result.seconds / len(result.features),
    }  # fmt: skip


def _write(
    config: EvaluateConfig, rows: list[dict[str, Any]], samples: dict[str, np.ndarray],
    captions: Sequence[str], about: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    from PIL import Image

    from training.scenery.evaluation.report import contact_sheet, markdown, ratios

    if not rows:
        raise ValueError(f"only={list(config.only)} names no row of the table; use e.g. LCM-1")
    found = {"settings": about, "rows": rows, "ratios": ratios(rows)}
    config.out.mkdir(parents=True, exist_ok=True)
    text = markdown(rows, about)
    (config.out / "evaluation.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    (config.out / "evaluation.md").write_text(text, "utf-8")
    Image.fromarray(contact_sheet(samples, captions)).save(config.out / "sheet.png")
    print(text)
    return found


def _detail(pictures: Tensor) -> float:
    """Mean power of the fine detail of (B, 3, H, W) in [0, 1], brought to 128 pixels."""
    from training.reconstruction import fine_detail

    return float(fine_detail(pictures * 2 - 1).mean())


def _digest(images: np.ndarray) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def _late(pipe: Any, start: float, made: Iterable[Tensor]) -> Iterable[Tensor]:
    from training.scenery.evaluation.late_guidance import guided_from

    with guided_from(pipe, start):
        yield from made


def _counted(batches: Iterable[Tensor], name: str, total: int) -> Iterable[Tensor]:
    done, began = 0, time.perf_counter()
    for images in batches:
        done += len(images)
        left = (time.perf_counter() - began) / done * (total - done)
        _say(f"{name}: {done} of {total}, {left:.0f} s left")
        yield images


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `python -m training evaluate`: 0, or 2 for a request that cannot be met."""
    base = EvaluateConfig()
    parser = argparse.ArgumentParser(prog="python -m training evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, help="diffusers folder of the distilled model")
    parser.add_argument("--teacher", type=Path, help="diffusers folder of its teacher")
    parser.add_argument("--features", type=Path, default=base.features)
    parser.add_argument("--out", type=Path, default=base.out, help=f"default {base.out}")
    parser.add_argument("--count", type=int, default=base.count, help="captions, 16 or more")
    parser.add_argument("--reference", type=int, default=base.reference, help="real scenes")
    parser.add_argument(
        "--guidance", type=float, default=base.guidance,
        help="guidance scale, 1 + w, 1 or more (default: what the folder says, or 2.5)",
    )  # fmt: skip
    parser.add_argument(
        "--guidance-start", type=float, default=base.guidance_start,
        help="share of the way from noise that the teacher goes without guidance (default: what its folder says)",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=base.batch)
    parser.add_argument("--seed", type=int, default=base.seed, help="seed of the first noise")
    parser.add_argument(
        "--spacing", default=base.spacing, choices=("trailing", "leading", "linspace")
    )
    parser.add_argument(
        "--edition", type=int, default=base.edition, choices=(1, 2), help="of the scenes"
    )
    parser.add_argument(
        "--first", type=int, default=base.first,
        help="held-out scenes to pass over: figures on others than a choice was made on",
    )  # fmt: skip
    parser.add_argument("--device", default=base.device)
    parser.add_argument("--threads", type=int, help="processor threads (default: torch's choice)")
    parser.add_argument("--only", nargs="+", default=(), metavar="ROW", help="e.g. LCM-1 DDIM-50")
    given = vars(parser.parse_args(argv))
    threads = given.pop("threads")
    if threads:
        import torch

        torch.set_num_threads(threads)
    try:
        evaluate(EvaluateConfig(**{**given, "only": tuple(given["only"])}))
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
