"""Every sampler's settings have controls, go into the request, and come back from a picture's settings."""

from __future__ import annotations

from typing import Any

import pytest

from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.samplers import SAMPLERS
from lcm_studio.spec.schema import Setting
from lcm_studio.spec.settings import to_settings
from lcm_studio.web.create import controls, samplers
from lcm_studio.web.create import values as form
from lcm_studio.web.create.fit import fit
from tests.toy_models import SD
from tests.web.create.test_values import GOOD


def other(setting: Setting) -> Any:
    """A value that is not the default."""
    if setting.kind == "switch":
        return not setting.default
    if setting.choices:
        return next(choice for choice in setting.choices if choice != setting.default)
    return setting.low if setting.low != setting.default else setting.high


@pytest.mark.parametrize("name", SAMPLERS)
def test_settings_of_a_sampler_go_there_and_back(name: str) -> None:
    row = SAMPLERS[name]
    given = {setting.name: other(setting) for setting in row.settings}
    filled = {**GOOD, "sampler": name, **samplers.form_of_settings(name, given)}
    request = form.to_request(filled, SD)
    assert request.sampler_settings == given
    assert row.checked(request.sampler_settings) == row.checked(given)
    again = form.from_settings(to_settings(request, SD), SD)
    assert form.to_request(again, SD).sampler_settings == given
    assert fit(again, SD)[0] == again
    updates = controls.follow(SD, again)
    shown = {field for field in samplers.FIELDS if updates[field]["visible"]}
    assert shown == {samplers.PREFIX + setting.name for setting in row.settings}
    assert all(updates[samplers.PREFIX + key]["value"] == value for key, value in given.items())


def test_a_shared_control_has_the_default_of_the_chosen_sampler() -> None:
    spacing = {name: samplers.defaults_of(name)["sampler_spacing"] for name in ("sde", "ode-heun")}
    assert spacing == {"sde": "model", "ode-heun": "karras"}
    assert form.to_request({**GOOD, **samplers.defaults_of("auto")}, SD).sampler_settings == {}


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(BadRequest, match=r"Tolerance is empty; enter a number from 1e-06 to 1"):
        form.to_request({**GOOD, "sampler": "rk45", "sampler_tolerance": None}, SD)
    said = {
        **GOOD, "sampler": "pc",
        "sampler_settings": {"snr": 99, "corrector_steps": 1.5, "predictor": "magic", "spacing": "karras", "depth": 3},
    }  # fmt: skip
    values, notes = fit(form.from_settings(said, SD), SD)
    assert values["sampler_snr"] == 0.16 and values["sampler_corrector_steps"] == 1
    assert values["sampler_predictor"] == "ancestral" and values["sampler_spacing"] == "karras"
    assert [note.split("=")[0] for note in notes] == ["snr", "corrector_steps", "predictor"]
    assert all(note.endswith(" is set.") for note in notes)
    assert samplers.unknown("pc", said["sampler_settings"]) == [
        "The sampler pc has no setting 'depth'; it is left out."
    ]
    # values of a sampler that is not chosen are nobody's business
    assert fit({"sampler": "sde", "sampler_tolerance": 9}, SD)[1] == []
