"""Several users from a file with hashed passwords; each sees their own runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from lcm_studio.cli import main
from lcm_studio.jobs.records import Job, NoSuchJob
from lcm_studio.jobs.service import Jobs
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.passwords import add_user, hashed, matches, read_users, single
from lcm_studio.web.distil import watch
from lcm_studio.web.distil.watch import Viewer
from lcm_studio.web.server.signin import Login


def test_hashes_are_salted_and_checked() -> None:
    first, second = hashed("correct horse"), hashed("correct horse")
    assert first != second and "correct" not in first
    assert matches("correct horse", first) and not matches("correct horse ", first)


def test_users_are_added_by_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "users"
    for name, password in (("ada", "a long one"), ("bob", "another one"), ("ada", "a new one!")):
        monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
        assert main(["users", str(file), name]) == 0
    users = read_users(file)
    assert sorted(users) == ["ada", "bob"] and file.stat().st_mode & 0o077 == 0
    login = Login(users)
    assert login.check(b"ada:a new one!", "1") == "ada"
    assert login.check(b"ada:a long one", "1") == "" and login.check(b"eve:another one", "1") == ""
    assert login.check(b"bob:another one", "1") == "bob" == login.check(b"bob:another one", "2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nobody\n",
        "ada\n",
        "ada:plain text",
        "ada:scrypt$999999$99$9$00$00",
        "a b:" + hashed("x" * 8),
    ],
)
def test_files_that_name_no_users_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(text)
    with pytest.raises(BadRequest):
        read_users(tmp_path / "users")


def test_short_passwords_and_odd_names_are_refused(tmp_path: Path) -> None:
    for name, password in (("ada", "short"), ("a:b", "long enough"), ("", "long enough")):
        with pytest.raises(BadRequest):
            add_user(tmp_path / "users", name, password)
    assert not (tmp_path / "users").exists()
    with pytest.raises(BadRequest):
        read_users(tmp_path / "users")


def test_the_flag_takes_a_pair_or_a_file(tmp_path: Path) -> None:
    from lcm_studio.web.flags import users_of

    add_user(tmp_path / "users", "ada", "a long one")
    assert list(users_of(str(tmp_path / "users"))) == ["ada"]
    assert list(users_of("bob:secret")) == ["bob"] and users_of("") == {}
    for wrong in ("bob:", ":x", str(tmp_path / "none")):
        with pytest.raises(BadRequest):
            users_of(wrong)
    assert matches("s:ecret", single("ann", "s:ecret")["ann"])


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Job]:
    jobs = Jobs(tmp_path, awake=False)
    monkeypatch.setattr(watch, "jobs", lambda: jobs)
    return {name: jobs.submit("lcd", {"steps": 1}, owner=name) for name in ("ada", "bob", "")}


def test_users_see_and_stop_their_own_runs_and_those_of_nobody(runs: dict[str, Job]) -> None:
    ada = Viewer(user="ada")
    assert {id_ for _, id_ in watch.look(None, ada).choices} == {runs["ada"].id, runs[""].id}
    assert watch.look(runs["bob"].id, ada).chosen != runs["bob"].id
    _, sentence = watch.act("stop", runs["bob"].id, ada)
    assert "no job" in sentence and watch.jobs().get(runs["bob"].id).state.value == "queued"
    with pytest.raises(NoSuchJob):
        ada.job(runs["bob"].id)
    assert "stopped" in watch.act("stop", runs["ada"].id, ada)[1]


def test_strangers_see_no_run(runs: dict[str, Job]) -> None:
    stranger = Viewer(stranger=True)
    seen = watch.look(runs[""].id, stranger)
    assert seen.choices == () and "sign in" in seen.head and not seen.log
    with pytest.raises(NoSuchJob):
        stranger.job(runs[""].id)


def test_a_table_that_cannot_be_read_is_said_on_the_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCM_STUDIO_HOME", str(tmp_path))
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "jobs.sqlite").write_bytes(b"x" * 5000)
    for path in (tmp_path / "jobs").iterdir():
        assert path.name
    from lcm_studio.jobs.keeper import store_path

    store_path(tmp_path / "jobs").write_bytes(b"x" * 5000)
    assert "move it away" in watch.look(None, Viewer()).head
    assert "move it away" in watch.act("stop", "x", Viewer())[1]
