from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.store.provenance import (
    LIBRARIES,
    VERSION,
    git_state,
    provenance,
    short_commit,
    system,
    versions,
    write_provenance,
)


def test_versions_name_the_project_and_every_library_behind_the_numbers() -> None:
    found = versions()
    assert found["interp-bench"] == VERSION
    assert set(LIBRARIES) < set(found)
    assert "not installed" not in found.values()


def test_nothing_names_the_machine() -> None:
    import platform

    assert platform.node() not in system().values()


def test_no_git_state_outside_a_checkout(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    assert git_state(tmp_path / "file") is None


def test_git_state_sees_changes(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", *who, "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    (tmp_path / "other").write_text("not tracked")
    assert git_state(tmp_path / "other") is None
    clean = git_state(tmp_path / "file", (":/file",))
    assert clean is not None
    assert len(clean["commit"]) == 40
    assert not clean["dirty"]
    (tmp_path / "file").write_text("2")
    elsewhere = git_state(tmp_path / "file", (":/code",))
    assert elsewhere is not None
    assert not elsewhere["dirty"]
    changed = git_state(tmp_path / "file", (":/file",))
    assert changed is not None
    assert changed["dirty"]


def test_provenance_states_command_and_seed_only_where_given() -> None:
    assert list(provenance()) == ["git", "versions", "python", "platform"]
    stated = provenance(command="interp-bench study faces", seed=3)
    assert list(stated) == ["command", "seed", *provenance()]
    assert (stated["seed"], stated["versions"], stated["git"]) == (3, versions(), git_state())


def test_the_short_commit_marks_changed_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for state, expected in (
        ({"commit": "0123456789abcdef", "dirty": False}, "0123456"),
        ({"commit": "0123456789abcdef", "dirty": True}, "0123456+"),
        (None, ""),
    ):
        monkeypatch.setattr("benchmarks.store.provenance.git_state", lambda state=state: state)
        assert short_commit() == expected


def test_facts_are_written_with_their_provenance(tmp_path: Path) -> None:
    path = write_provenance(tmp_path / "deep" / "facts.json", {"epochs": 3, "root": tmp_path}, command="x", seed=1)
    content = json.loads(path.read_text())
    assert list(content) == [*provenance(command="x", seed=1), "epochs", "root"]
    assert content["root"] == str(tmp_path)
