"""What three models that nobody has made say of themselves: one with the guidance scale as an input, one with real guidance, one of pixels."""

from __future__ import annotations

from pathlib import Path

from lcm_studio.spec.models import ModelInfo

NOWHERE = Path("/none")
VOCABULARY = (
    ("time", ("dawn", "day", "sunset", "night")),
    ("sky", ("clear sky", "a few clouds", "many clouds", "stars")),
    ("sun and moon", ("sun on the left", "sun in the middle", "sun on the right", "moon on the left", "moon on the right")),
    ("mountains", ("hills", "rocky mountains", "snowy mountains")),
    ("ground", ("green grass", "sand", "snow", "autumn field", "lavender field", "path")),
    ("water", ("lake", "sea", "sailboat")),
    ("trees", ("one pine tree", "a few pine trees", "many pine trees", "one oak tree", "one palm tree")),
    ("house", ("red house", "blue house", "white house", "yellow house")),
)  # fmt: skip

LCM = ModelInfo(
    id="scenery-lcm", path=str(NOWHERE / "scenery-lcm"), kind="lcm", width=256, height=256, multiple=8,
    guidance="embedded", guidance_default=8.0, guidance_range=(3.0, 14.0), vocabulary=VOCABULARY, text_widths=(2,),
    own_error=0.18, parameters=17_000_000, bytes=34_000_000, note="Painted landscapes, made by the studio's own renderer.",
)  # fmt: skip
SD = ModelInfo(
    id="some-sd", path=str(NOWHERE / "some-sd"), kind="sd", width=512, height=512, multiple=8, guidance="cfg",
    guidance_default=2.0, guidance_range=(1.0, 15.0), takes_negative=True, text_widths=(2,),
    parameters=860_000_000,
)  # fmt: skip
CM = ModelInfo(
    id="scenery-cm", path=str(NOWHERE / "scenery-cm"), kind="cm", width=64, height=64, multiple=8, guidance="none",
    takes_prompt=False, classes=10, max_steps=40, steps_default=2, parameters=3_000_000,
)  # fmt: skip
