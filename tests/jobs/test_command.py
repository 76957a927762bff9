"""Nothing a user writes becomes an argument, a shell word or an environment variable."""

from __future__ import annotations

import random
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from lcm_studio.jobs.backends.files import write_skypilot, write_slurm
from lcm_studio.jobs.backends.ray import check_address
from lcm_studio.jobs.config import (
    RECIPES,
    command,
    device_of,
    dump_config,
    environment,
    load_config,
    parse_config,
    rooted,
    with_settings,
)
from lcm_studio.jobs.service import Jobs
from lcm_studio.spec.errors import BadRequest

_PARTS = (
    "; touch canary", "$(touch canary)", "`touch canary`", "| touch canary", "&& touch canary",
    "--resume", "--config=/etc/passwd", "-m", "-c", "\n", "\r\n", "\0", "'", '"', "\\", "%s", "{0}",
    "${HOME}", "../../..", "pipe:touch canary", "!!python/object/apply:os.system ['touch canary']",
    "*id001", "&a", "\u202e", "𝕏", "é", " ", "\t", "<<EOF", ">/dev/null", "LD_PRELOAD=x.so", "\x1b[31m",
)  # fmt: skip


def hostile(count: int = 500) -> list[str]:
    draw = random.Random(7)
    return ["".join(draw.choices(_PARTS, k=draw.randint(1, 4))) for _ in range(count)]


def test_500_hostile_strings_give_exactly_the_expected_argv(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs", awake=False)
    for number, text in enumerate(hostile()):
        recipe = RECIPES[number % len(RECIPES)]
        config = {"teacher": text, "data": {"folder": text}, "prompts": [text, text]}
        job = jobs.submit(recipe, config, name=text)
        folder = jobs.folder(job.id)
        expected = (
            sys.executable, "-m", "training", recipe,
            "--config", str(jobs.home / job.id / "job.yaml"), "--output", str(jobs.home / job.id),
        )  # fmt: skip
        assert command(job.recipe, folder, resume=False) == expected
        assert command(job.recipe, folder, resume=True) == (*expected, "--resume")
        assert jobs.config(job.id) == config, "the value arrives unchanged, as a value"
        with pytest.raises(BadRequest):
            jobs.submit(text, {})
        with pytest.raises(BadRequest):
            jobs.submit("lcd", {"device": text})
        with pytest.raises(BadRequest):
            jobs.get(text)
    assert not list(Path.cwd().glob("canary*"))


def test_hostile_settings_stay_values(tmp_path: Path) -> None:
    for text in hostile(200):
        found = with_settings({}, [f"note={text}"])
        assert list(found) == ["note"]
        again = parse_config(dump_config(found))
        assert again == found or found["note"] != found["note"]
        if not text.partition("=")[0].isidentifier():
            with pytest.raises(BadRequest):
                with_settings({}, [f"{text}=1"])


def test_settings_are_typed_and_reach_into_sections() -> None:
    found = with_settings({"data": {"folder": "a"}}, ["data.folder=b c", "steps=300", "ema=0.95"])
    assert found == {"data": {"folder": "b c"}, "steps": 300, "ema": 0.95}
    with pytest.raises(BadRequest, match="not a section"):
        with_settings({"data": "x"}, ["data.folder=b"])


def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "LD_PRELOAD",
        "PYTHONSTARTUP",
        "PYTHONINSPECT",
        "AWS_SECRET_ACCESS_KEY",
        "BASH_ENV",
    ):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert not {"LD_PRELOAD", "PYTHONSTARTUP", "AWS_SECRET_ACCESS_KEY", "BASH_ENV"} & set(
        environment()
    )
    assert environment()["PYTHONPATH"] == str(Path(__file__).resolve().parents[2])


def test_yaml_tags_run_nothing_and_odd_files_are_refused(tmp_path: Path) -> None:
    for text in (
        "!!python/object/apply:os.system ['touch canary']",
        "- a\n- b",
        "1: 2",
        "a: [1",
        "{",
    ):
        with pytest.raises(BadRequest):
            parse_config(text)
    with pytest.raises(BadRequest, match="there is no config file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "large.yaml").write_text("a: " + "x" * 300_000)
    with pytest.raises(BadRequest, match="larger than 256 kB"):
        load_config(tmp_path / "large.yaml")
    with pytest.raises(BadRequest):
        load_config(tmp_path)


def test_devices() -> None:
    assert device_of({"device": "cuda"}) == "cuda:0"
    assert device_of({"device": "cuda:3"}) == "cuda:3"
    assert device_of({"device": "cpu"}) == "cpu"
    assert device_of({}) in ("cpu", "cuda:0")


@pytest.mark.parametrize(
    "bad", ["ftp://x", "file:///etc/passwd", "127.0.0.1:8265", "http://", "http://h/p"]
)
def test_ray_addresses(bad: str) -> None:
    with pytest.raises(BadRequest, match="8265"):
        check_address(bad)
    assert check_address("http://127.0.0.1:8265/") == "http://127.0.0.1:8265"


def test_slurm_and_skypilot_files(tmp_path: Path) -> None:
    script = write_slurm("lcd", "steps: 3\n", tmp_path / "a", nodes=2, gpus=4, hours=3).read_text()
    assert "#SBATCH --nodes=2" in script and "--nproc_per_node=4" in script
    assert f"--config {tmp_path}/a/job.yaml --output {tmp_path}/a $resume" in script
    task = yaml.safe_load(write_skypilot("cd", "steps: 3\n", tmp_path / "b").read_text())
    assert task["num_nodes"] == 1 and "-m training cd --config ~/job.yaml" in task["run"]
    assert shlex.split(task["run"])[:2] == ["timeout", "--signal=TERM"]
    with pytest.raises(BadRequest, match="not empty"):
        write_slurm("lcd", "", tmp_path / "a")
    with pytest.raises(BadRequest, match="no spaces"):
        write_slurm("lcd", "", tmp_path / "with space")
    with pytest.raises(BadRequest, match="nodes=0"):
        write_slurm("lcd", "", tmp_path / "c", nodes=0)
    with pytest.raises(BadRequest):
        write_slurm("lcd; touch canary", "", tmp_path / "c")


def test_the_recipes_are_the_trainers() -> None:
    from lcm_studio.web.distil.values import LABELS
    from training.recipes import NAMES

    assert set(RECIPES) == set(NAMES) == set(LABELS)


def test_paths_hold_wherever_the_job_runs(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    config = {"teacher": "owner/name", "data": {"kind": "folder", "path": "pictures"}}
    found = rooted(config, tmp_path, tmp_path / "cache")
    assert found["data"]["path"] == str(tmp_path / "pictures")
    assert found["data"]["cache"] == str(tmp_path / "cache")
    assert found["teacher"] == "owner/name"
    assert config["data"] == {"kind": "folder", "path": "pictures"}, "the caller's is left alone"


def test_folders_of_weights_hold_wherever_the_job_runs(tmp_path: Path) -> None:
    from lcm_studio.jobs.config import WEIGHTS
    from training.recipes import NAMES, find

    (tmp_path / "mine").mkdir()
    found = rooted(dict.fromkeys(WEIGHTS, "mine"), tmp_path, tmp_path / "cache")
    assert {found[key] for key in WEIGHTS} == {str(tmp_path / "mine")}
    known = {key for name in NAMES for key in find(name).Config.model_fields}
    assert known >= set(WEIGHTS), "a name that no recipe has is never made whole"


def test_a_config_for_several_processes_is_refused_before_anything_starts(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs", awake=False)
    for ask in (jobs.submit, jobs.plan):
        with pytest.raises(BadRequest, match="set sharding to none"):
            ask("lcd", {"sharding": "full"})
    assert not jobs.list()
    written = write_slurm("lcd", dump_config({"sharding": "full"}), tmp_path / "slurm", gpus=2)
    assert "--nproc_per_node=2" in written.read_text()
