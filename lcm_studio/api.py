"""Three lines of Python give pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.requests import Edit, Generate, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from lcm_studio.engine.remote.client import RemoteEngine
    from lcm_studio.spec.requests import Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A finished picture: `pixels` uint8 `(H, W, 3 or 4)`, and the settings that make it again."""

    pixels: Pixels
    seed: int
    settings: Mapping[str, Any]

    def save(self, path: str | Path) -> Path:
        """Writes a PNG that carries the settings."""
        from lcm_studio.images.png import write_png

        return write_png(path, self.pixels, {**self.settings, "seed": self.seed, "count": 1})

    def image(self) -> Image:
        """As a PIL image."""
        from PIL import Image

        return Image.fromarray(self.pixels)


class Studio:
    """An engine behind plain calls. Keyword arguments are those of spec.requests.Generate and Edit.

    `engine`: the address of engines elsewhere (`python -m lcm_studio serve`), "" = one in this process.
    """

    def __init__(self, engine: str = "", **config: Any) -> None:
        self.engine: Engine | RemoteEngine
        if engine:
            from lcm_studio.engine.remote.client import RemoteEngine

            self.engine = RemoteEngine(engine)
        else:
            self.engine = Engine(EngineConfig(**config))

    def generate(self, prompt: str = "", **settings: Any) -> list[Picture]:
        """Pictures of a prompt. Raises StudioError with one sentence."""
        return self.run(Generate(prompt=prompt, **settings))

    def edit(self, task: str, image: Pixels, **settings: Any) -> list[Picture]:
        """An edit of `image`, uint8 `(H, W, 3 or 4)`. Raises StudioError with one sentence."""
        return self.run(Edit(task=task, image=image, **settings))

    def run(self, request: Request) -> list[Picture]:
        """Carries out any request. Raises StudioError with one sentence."""
        for event in self.engine.run(request):
            if isinstance(event, Failed):
                raise StudioError(event.message)
            if isinstance(event, Done):
                return [
                    Picture(pixels=pixels, seed=seed, settings=event.settings)
                    for pixels, seed in zip(event.images, event.seeds, strict=True)
                ]
        raise StudioError("it was stopped before it finished; run it again")
