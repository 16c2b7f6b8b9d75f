"""The judges' secret: made once, the same for everybody who shares the file, never shown."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from reward_server.config import load
from reward_server.errors import ConfigError
from reward_server.judge import secret
from reward_server.judge.secret import JudgeSecret, read_secret

KEY = "k" * 40


def problem_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_secret(path)
    return str(caught.value)


def test_a_missing_file_is_made_with_its_folders_for_this_user_only(tmp_path):
    path = tmp_path / "state" / "service" / "judge-secret"
    made = read_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert len(bytes.fromhex(path.read_text())) == 32
    assert made.key == path.read_bytes().strip()
    assert list(path.parent.iterdir()) == [path]  # no draft is left


def test_the_next_start_reads_the_same(tmp_path):
    assert read_secret(tmp_path / "s") == read_secret(tmp_path / "s")


def test_two_files_have_two_secrets_and_two_ids(tmp_path):
    one, other = read_secret(tmp_path / "a"), read_secret(tmp_path / "b")
    assert one.key != other.key
    assert one.id != other.id


def test_the_id_is_of_the_key_and_gives_none_of_it_away(tmp_path):
    (tmp_path / "s").write_text(KEY + "\n")
    found = read_secret(tmp_path / "s")
    assert found == JudgeSecret.of(KEY.encode())
    assert len(found.id) == 8
    assert found.id not in KEY
    assert KEY not in repr(found)


def test_servers_that_start_at_the_same_time_agree(tmp_path):
    path, found = tmp_path / "s", []
    barrier = threading.Barrier(16)

    def start():
        barrier.wait()
        found.append(read_secret(path))

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_server_that_comes_second_keeps_the_first_ones_file(tmp_path, monkeypatch):
    path = tmp_path / "s"
    make = secret._make

    def slower(path):
        path.write_text(KEY)
        make(path)

    monkeypatch.setattr(secret, "_make", slower)
    assert read_secret(path).key == KEY.encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("short", "holds 5 characters"),
        (f"{KEY}\n{KEY}\n", "holds no secret"),
        ("two words are not one line of a secret at all", "holds no secret"),
        ("k" * 5000, "holds no secret"),
    ],
)
def test_what_is_no_secret_is_refused_with_key_and_remedy(tmp_path, content, words):
    path = tmp_path / "s"
    path.write_text(content)
    problem = problem_of(path)
    assert problem.startswith(f"secret_file: {path} ")
    assert words in problem
    assert f"openssl rand -hex 32 > {path}" in problem


def test_no_message_shows_what_the_file_holds(tmp_path):
    (tmp_path / "s").write_text("hunter2hunter2")
    assert "hunter2" not in problem_of(tmp_path / "s")


def test_no_log_line_shows_the_key(tmp_path):
    with capture_logs() as lines:
        made = read_secret(tmp_path / "s")
    assert [line["event"] for line in lines] == ["made a secret for the judges"]
    assert made.key.decode() not in str(lines)


def test_a_file_that_every_user_can_read_is_warned_of(tmp_path):
    path = tmp_path / "s"
    path.write_text(KEY)
    path.chmod(0o644)
    with capture_logs() as lines:
        read_secret(path)
    assert [line["log_level"] for line in lines] == ["warning"]
    assert lines[0]["remedy"] == f"chmod o= {path}"


def test_a_file_of_owner_and_group_is_fine(tmp_path):
    path = tmp_path / "s"
    path.write_text(KEY)
    path.chmod(0o440)
    with capture_logs() as lines:
        read_secret(path)
    assert lines == []


def test_a_folder_is_refused(tmp_path):
    assert "is a folder: name a file in it" in problem_of(tmp_path)


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "a part of its path is a file" in problem_of(tmp_path / "file" / "s")
    assert "a part of its path is a file" in problem_of(tmp_path / "file" / "folder" / "s")


def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "s"
    path.write_text(KEY)

    def refused(self, *args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    assert "can't be read: Permission denied. Mend its permissions" in problem_of(path)


def test_where_none_can_be_made_the_remedy_names_a_volume_that_replicas_share(tmp_path, monkeypatch):
    def read_only(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(secret.tempfile, "mkstemp", read_only)
    problem = problem_of(tmp_path / "s")
    assert "can't be made: Read-only file system" in problem
    assert "secret_file to a file on a volume that lasts and that all replicas share" in problem


def test_without_hard_links_it_says_so_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def no_links(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    assert "no hard links" in problem_of(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


class TestInTheConfiguration:
    REWARDS = "rewards: {r: {length: {target: 10, width: 30}}}\n"

    def path_of(self, tmp_path: Path, text: str = "") -> Path:
        (tmp_path / "server.yaml").write_text(self.REWARDS + text)
        return load(tmp_path / "server.yaml").secret_file

    def test_a_relative_path_starts_at_the_files_folder(self, tmp_path):
        assert self.path_of(tmp_path, "secret_file: keys/judges\n") == tmp_path / "keys" / "judges"

    def test_the_default_is_in_the_users_state_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        assert self.path_of(tmp_path) == tmp_path / "state" / "grpo-reward-service" / "judge-secret"
        monkeypatch.setenv("XDG_STATE_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        expected = tmp_path / "home" / ".local" / "state" / "grpo-reward-service" / "judge-secret"
        assert self.path_of(tmp_path) == expected

    def test_reading_a_configuration_makes_no_file(self, tmp_path):
        path = self.path_of(tmp_path, "secret_file: keys/judges\n")
        assert not path.parent.exists()

    def test_a_problem_with_it_is_told_with_file_and_line(self, tmp_path):
        (tmp_path / "server.yaml").write_text(self.REWARDS + "secret_file: .\n")
        config = load(tmp_path / "server.yaml")
        located = config.located(problem_of(config.secret_file))
        assert located.startswith(f"{tmp_path / 'server.yaml'}:2: secret_file: ")


def test_other_processes_read_what_one_made(tmp_path):
    path = tmp_path / "s"
    code = "import sys, pathlib; from reward_server.judge.secret import read_secret as r; print(r(pathlib.Path(sys.argv[1])).id)"
    command = [sys.executable, "-c", code, str(path)]
    ids = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1] for _ in range(2)]
    assert ids == [read_secret(path).id] * 2
