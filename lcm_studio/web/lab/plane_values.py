"""What the plane's bench sends and gets: JSON -> requests of `lcm_studio.lab.plane`, results -> messages."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lcm_studio.lab import plane, plane_data
from lcm_studio.lab.plane_levels import T_MAX, T_MIN, frame_scale, levels, place
from lcm_studio.lab.plane_mixture import Floats, Mixture
from lcm_studio.lab.plane_samplers import SHOWN, default_of, settings_of
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.samplers import SAMPLERS
from lcm_studio.web.lab.stream import pack

if TYPE_CHECKING:
    from lcm_studio.lab.plane_train import Learned

HALF = 1.6  # the drawing shows [-HALF, HALF] in both coordinates of the frame
PIXELS, ARROWS, ATLAS = 96, 17, 33  # of a density, of a row of arrows, levels of the atlas
FINE = 8000  # int16 steps per unit of the frame
MOST_FRAMES = 72  # of one sampler that are sent; a longer one is thinned
CLOUD = 2000


class Networks:
    """Trained networks by random names; the oldest goes when there are too many. They live until the studio ends."""

    def __init__(self, most: int = 64) -> None:
        self.most, self._kept, self._lock = most, OrderedDict[str, Any](), threading.Lock()

    def keep(self, learned: Learned) -> str:
        """The name under which the page asks for it again."""
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._kept[name] = learned
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return name

    def replace(self, name: str | None, learned: Learned) -> str:
        """Keep the newer one under the same name."""
        if name is None:
            return self.keep(learned)
        with self._lock:
            self._kept[name] = learned
        return name

    def find(self, names: Any) -> dict[str, Learned]:
        """{stage: network} of {stage: name}. Raises BadRequest for one that is not kept."""
        if names is None:
            return {}
        if not isinstance(names, Mapping):
            raise BadRequest("networks must be {stage: name}; send the names that training gave")
        with self._lock:
            kept = {stage: self._kept.get(str(name)) for stage, name in names.items()}
        for stage, learned in kept.items():
            if learned is None or learned.stage != stage:
                raise BadRequest(
                    f"the studio no longer keeps the network of {stage!r}; train it again"
                )
        return {stage: learned for stage, learned in kept.items() if learned is not None}


def mixture_of(value: Any) -> Mixture:
    """The distribution of {"name": ...} or {"points": [[x, y], ...], "kind": "drawn" | "picture"}."""
    if isinstance(value, Mapping) and "points" in value:
        points = value["points"]
        if isinstance(points, list) and len(points) > 20_000:
            raise BadRequest(f"{len(points)} points are too many; draw at most 20000")
        return plane_data.from_points(
            points, width=plane_data.PICTURE_WIDTH if value.get("kind") == "picture" else 0.05
        )
    name = value.get("name") if isinstance(value, Mapping) else value
    return plane_data.distribution(str(name))


def seed_of(value: Mapping[str, Any]) -> int:
    """The seed of a request, 0 where it has none. Raises BadRequest."""
    return plane.whole("seed", value.get("seed", 0), 0, plane.SEED_LIMIT)


def systems_of(value: Any) -> tuple[plane.System, ...]:
    """Of a list of {sampler, evaluations, network, settings}."""
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise BadRequest("systems must be a list of {sampler, evaluations, network, settings}")
    systems = []
    for row in value:
        settings = row.get("settings") or {}
        if not isinstance(settings, Mapping):
            raise BadRequest("settings of a sampler must be {name: value}")
        systems.append(
            plane.System(
                sampler=str(row.get("sampler")), evaluations=row.get("evaluations"),  # type: ignore[arg-type]
                network=str(row.get("network", "exact")), settings=dict(settings),
            )
        )  # fmt: skip
    return tuple(systems)


def quantized(points: Floats, scale: float = 1.0) -> bytes:
    """Points of the frame as int16 in steps of 1 / FINE, row by row x, y."""
    fine = np.rint(np.asarray(points, dtype=np.float64) * (scale * FINE))
    return bytes(np.clip(fine, -32767, 32767).astype("<i2").tobytes())


def atlas(mixture: Mixture, seed: int) -> bytes:
    """One message with all that the forward process shows: densities and score arrows at ATLAS levels, and a cloud.

    Body: ATLAS * PIXELS^2 uint8, rows from the top; ATLAS * ARROWS^2 arrows t score(x, t), int16; CLOUD points x_0 and
    CLOUD noises z, int16, so that the page makes x_t = x_0 + t z itself.
    """
    axis, grid = np.linspace(-HALF, HALF, PIXELS), levels(ATLAS)
    densities = []
    for t in grid.tolist():
        wide = axis / frame_scale(t)
        density = mixture.on_grid(wide, wide, t)[0]
        # a gentle curve shows tails; each level has its own brightest place
        densities.append(np.rint(255 * np.sqrt(density / density.max()))[::-1].astype(np.uint8))
    rng = np.random.default_rng(seed)
    x_0, z = mixture.sample(CLOUD, rng), rng.standard_normal((CLOUD, 2))
    body = b"".join(
        [
            np.stack(densities).tobytes(),
            arrows(mixture.denoise, grid),
            quantized(x_0),
            quantized(z),
        ]
    )
    header = {
        "kind": "atlas", "pixels": PIXELS, "arrows": ARROWS, "half": HALF, "fine": FINE, "cloud": CLOUD,
        "levels": grid.tolist(), "components": len(mixture.weights), "width": mixture.width,
    }  # fmt: skip
    return pack(header, body)


def arrows(denoise: Any, grid: Floats) -> bytes:
    """t score(x, t) = (D - x) / t on the frame's grid at each level, int16; rows from the bottom."""
    axis = np.linspace(-HALF, HALF, ARROWS)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    rows = []
    for t in grid.tolist():
        x = (points / frame_scale(t)).astype(np.float32)
        rows.append(quantized((denoise(x, t) - x) / t, 0.25))
    return b"".join(rows)


def moved_messages(
    events: Iterator[plane.Moved | plane.Arrived], counts: list[int]
) -> Generator[bytes, None, None]:
    """A message per frame that is shown, one per panel that has arrived."""
    seen = [0] * len(counts)
    for event in events:
        if isinstance(event, plane.Arrived):
            yield pack(
                {
                    "kind": "arrived", "system": event.system, "evaluations": event.evaluations,
                    "seconds": round(event.seconds, 3), "distance": event.distance, "floor": event.floor,
                    "error": event.error,
                }
            )  # fmt: skip
            continue
        index, frame = event.system, event.frame
        every = max(1, -(-counts[index] // MOST_FRAMES))
        last = frame.t <= T_MIN * 1.0001
        if seen[index] % every == 0 or last:
            yield pack(
                {
                    "kind": "frame", "system": index, "t": frame.t, "clock": event.clock,
                    "evaluations": frame.evaluations, "particles": len(frame.x),
                },
                quantized(frame.x, frame_scale(frame.t)),
            )  # fmt: skip
        seen[index] += 1


def learning_messages(
    events: Iterator[plane.Learning], lines: plane.Lines, networks: Networks
) -> Generator[bytes, None, None]:
    """Each report of a training; the network is kept and named in every one, so that Stop keeps what was learned.

    Body: for "score" the learned arrows as in the atlas; for the others the ends f(x_T, T) of the drawn lines. The
    first message, of kind "lines", has the exact paths.
    """
    grid = levels(ATLAS)
    scales = np.array([frame_scale(t) for t in lines.levels])[:, None, None]
    yield pack(
        {"kind": "lines", "levels": lines.levels.tolist(), "lines": plane.LINES},
        quantized(lines.paths * scales),
    )
    name = None
    for event in events:
        learned = event.learned
        body = arrows(learned, grid) if event.stage == "score" else b""
        ends = quantized(learned(lines.paths[0], T_MAX))
        name = networks.replace(name, learned)
        yield pack(
            {
                "kind": "learning", "stage": event.stage, "step": event.step, "steps": event.steps,
                "loss": event.loss, "levels": event.levels, "curve": event.curve, "error": event.error,
                "teacher": lines.consistency_curve(learned) if event.stage == "score" else None,
                "network": name, "arrows": len(body),
            },
            body + ends,
        )  # fmt: skip


def schema() -> dict[str, Any]:
    """What the page draws its controls from."""
    return {
        "distributions": {name: title for name, (title, _) in plane_data.DISTRIBUTIONS.items()},
        "samplers": [sampler_words(name) for name in SHOWN],
        "stages": plane.STAGES,
        "limits": {"particles": plane.MOST_PARTICLES, "evaluations": plane.MOST_EVALUATIONS,
                   "systems": plane.MOST_SYSTEMS, "steps": plane.MOST_STEPS, "seed": plane.SEED_LIMIT},
        "t": [T_MIN, T_MAX], "rho": 7.0, "sigma_data": plane_data.SIGMA_DATA, "place": [place(T_MAX), place(T_MIN)],
    }  # fmt: skip


def sampler_words(name: str) -> dict[str, Any]:
    """A sampler as the page offers it."""
    info, shown = SAMPLERS[name], SHOWN[name]
    return {
        "name": name, "title": info.title, "family": info.family, "formula": shown.formula, "words": shown.words,
        "source": info.source, "least": info.least, "usual": shown.usual, "consistency": not info.score,
        "settings": [
            {"name": s.name, "title": s.title, "default": default_of(name, s), "low": s.low, "high": s.high,
             "help": s.help, "whole": s.kind == "whole"}
            for s in settings_of(info)
        ],
    }  # fmt: skip
