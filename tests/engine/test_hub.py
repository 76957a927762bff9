"""Hub ids against a hub on the loopback: fetched once, used offline, refused before anything of them could run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.models.hub import HubError, Stopped, Tell, fetch_model
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.models import LoadState
from tests import tiny
from tests.hub import DROP, Hub, run

Outcome = CompletedProcess[str]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("lcm", tmp_path_factory.mktemp("published") / "lcm")


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    """A copy of the tiny LCM that a test may spoil."""
    return Path(shutil.copytree(published, tmp_path / "repository"))


def look(hub: Hub, home: Path, name: str, *more: str, patient: bool = True) -> Outcome:
    """`models NAME`: fetches a model and says what it is, without torch."""
    return run(hub.environment(home), "lcm_studio", "models", name, *more, patient=patient)


def refused(outcome: Outcome, *words: str) -> str:
    """The one sentence of a user's mistake."""
    assert outcome.returncode == 2, outcome
    assert outcome.stdout == ""
    assert len(outcome.stderr.strip().splitlines()) == 1, outcome.stderr
    assert "Traceback" not in outcome.stderr
    for word in words:
        assert word in outcome.stderr
    return outcome.stderr


class Canary:
    """Leaves a mark when somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_a_hub_model_is_the_folder_that_was_published(
    hub: Hub, repository: Path, tmp_path: Path
) -> None:
    for name in ("pipeline.py", "all.safetensors", "unet/diffusion_pytorch_model.bin"):
        (repository / name).write_bytes(b"not asked for")
    for name in ("non_ema", "fp16"):
        weights = repository / "unet" / f"diffusion_pytorch_model.{name}.safetensors"
        weights.write_bytes(b"not asked for either")
    hub.publish("ann/lcm", repository)
    argv = ("generate", "sunset lake", "--steps", "2", "--seed", "5", "--device", "cpu")

    def picture(model: str, *more: str) -> tuple[str, ...]:
        return (*argv, "--model", model, "--out", str(tmp_path / f"{len(more)}.png"), *more)

    home = tmp_path / "home"
    online = run(hub.environment(home), "lcm_studio", *picture("ann/lcm", "--online"))
    assert online.returncode == 0, online.stderr
    assert "Traceback" not in online.stderr and "Fetching" not in online.stderr
    kept = {f"{part}/{stem}.safetensors" for part, stem in (
        ("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model"),
    )}  # fmt: skip
    assert {name for name in hub.fetched() if not name.endswith((".json", ".txt"))} == kept
    assert not [path for path in home.rglob("*") if path.suffix in (".py", ".bin")]

    asked = len(hub.log)
    offline = run(hub.environment(home), "lcm_studio", *picture("ann/lcm"))
    assert offline.returncode == 0, offline.stderr
    assert len(hub.log) == asked

    folder = run(
        hub.environment(home), "lcm_studio", *picture(str(repository), "--sampler", "auto")
    )
    assert folder.returncode == 0, folder.stderr
    made = [np.asarray(Image.open(tmp_path / f"{n}.png")).astype(int) for n in (0, 1, 2)]
    assert np.abs(made[0] - made[2]).max() == np.abs(made[1] - made[2]).max() == 0


def test_once_fetched_the_hub_may_be_away(hub: Hub, repository: Path, tmp_path: Path) -> None:
    hub.publish("ann/lcm", repository)
    refused(look(hub, tmp_path, "ann/lcm"), "ann/lcm", "--online")
    assert not hub.log
    said = look(hub, tmp_path, "ann/lcm", "--online", "--json")
    assert json.loads(said.stdout)["models"][0]["id"] == "ann/lcm"
    weights = [path for _, path in hub.log if path.startswith("/blobs/")]
    hub.faults["/api/"] = 503
    assert look(hub, tmp_path, "ann/lcm", "--online").returncode == 0
    assert [path for _, path in hub.log if path.startswith("/blobs/")] == weights


def test_a_name_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    refused(look(hub, tmp_path, "ann/nothing", "--online"), "ann/nothing", "check the name")
    refused(look(hub, tmp_path, "ann/no..thing", "--online"), "owner/name")


def test_a_repository_that_is_no_pipeline(hub: Hub, repository: Path, tmp_path: Path) -> None:
    (repository / "model_index.json").unlink()
    hub.publish("ann/lcm", repository)
    refused(look(hub, tmp_path, "ann/lcm", "--online"), "ann/lcm", "model_index.json")


def test_pickles_only(hub: Hub, repository: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (repository / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    pickled = repository / "unet" / "diffusion_pytorch_model.bin"
    pickled.write_bytes(pickle.dumps(Canary(mark)))
    hub.publish("ann/lcm", repository)
    refused(look(hub, tmp_path / "home", "ann/lcm", "--online"), "ann/lcm", "pickled", "unet/")
    assert not mark.exists()
    assert not [name for name in hub.fetched() if name.endswith((".bin", ".safetensors"))]


@pytest.mark.parametrize("how", ["class", "library", "pipeline", "remote code"])
def test_foreign_code(hub: Hub, repository: Path, tmp_path: Path, how: str) -> None:
    mark = tmp_path / "mark"
    (repository / "unet" / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass UNet: ...\n")
    file = repository / ("unet/config.json" if how == "remote code" else "model_index.json")
    said = json.loads(file.read_text())
    said |= {
        "class": {"unet": ["diffusers", "OwnUNet"]},
        "library": {"unet": ["own", "UNet2DConditionModel"]},
        "pipeline": {"_class_name": ["own", "Pipeline"]},
        "remote code": {"auto_map": {"AutoModel": "own.UNet"}},
    }[how]
    file.write_text(json.dumps(said))
    hub.publish("ann/lcm", repository)
    refused(look(hub, tmp_path / "home", "ann/lcm", "--online"), "ann/lcm")
    assert not mark.exists()
    assert not [name for name in hub.fetched() if name.endswith((".py", ".safetensors"))]


@pytest.mark.parametrize(
    ("where", "fault"),
    [("/api/models/ann/lcm/revision", 500), ("/blobs/", 500), ("/blobs/", DROP)],
)
def test_a_hub_in_trouble(
    hub: Hub, repository: Path, tmp_path: Path, where: str, fault: int
) -> None:
    hub.publish("ann/lcm", repository)
    hub.faults[where] = fault
    said = refused(look(hub, tmp_path, "ann/lcm", "--online", patient=False), "ann/lcm", "again")
    assert ("500" in said) == (fault == 500)
    if where == "/blobs/":
        refused(look(hub, tmp_path, "ann/lcm"), "in part", "--online")
    hub.faults.clear()
    assert look(hub, tmp_path, "ann/lcm", "--online").returncode == 0
    assert look(hub, tmp_path, "ann/lcm").returncode == 0


@pytest.fixture
def reached(hub: Hub, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub with ann/lcm, for this very process."""
    from huggingface_hub import constants

    hub.publish("ann/lcm", repository)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    files = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return hub


def test_what_comes_is_told_and_what_is_stopped_goes_on(reached: Hub, repository: Path) -> None:
    sizes = {path.parent.name: path.stat().st_size for path in repository.glob("*/*.safetensors")}
    told: list[tuple[int, int]] = []

    def stopping(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 2:
            raise Stopped

    with pytest.raises(HubError, match="goes on where it stopped"):
        fetch_model("ann/lcm", offline=False, tell=stopping)
    assert {total for _, total in told} == {sum(sizes.values())}
    again: list[tuple[int, int]] = []
    folder = fetch_model("ann/lcm", offline=False, tell=lambda *said: again.append(said))
    assert again[-1] == (sum(sizes.values()), sum(sizes.values()))
    assert [done for done, _ in again] == sorted(done for done, _ in again)
    # what was whole is not fetched again
    blobs = [path for kind, path in reached.log if path.startswith("/blobs/") and kind == "GET"]
    assert len(blobs) < 2 * len(sizes)
    assert fetch_model("ann/lcm", offline=False) == folder


def test_the_engine_tells_of_it_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from lcm_studio.models import hub as hubs

    engine = Engine(EngineConfig(device="cpu", offline=False))
    seen: list[LoadState] = [engine.state()]

    def fake(name: str, *, offline: bool, tell: Tell) -> Path:
        seen.append(engine.state())
        tell(2**20, 3 * 2**30)
        seen.append(engine.state())
        engine.stop_download()
        try:
            tell(2**21, 3 * 2**30)
        except Stopped as error:
            raise HubError("it was stopped") from error
        raise AssertionError("it was not stopped")

    monkeypatch.setattr(hubs, "fetch_model", fake)
    with pytest.raises(ModelError, match="it was stopped"):
        engine.info("ann/lcm")
    idle, looking, loading = seen
    assert (idle.status, looking.status, loading.status) == ("idle", "loading", "loading")
    assert loading.message == "Downloading ann/lcm: 1 MB of 3.0 GB"
    assert (loading.model, loading.done, loading.total) == ("ann/lcm", 2**20, 3 * 2**30)
    failed = engine.state()
    assert (failed.status, failed.total) == ("failed", 0) and "it was stopped" in failed.message
    engine.close()
