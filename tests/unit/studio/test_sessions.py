from __future__ import annotations

import stat
from pathlib import Path

from calib.studio.sessions import Sessions


def test_a_session_outlives_the_server_and_a_token_does_not(tmp_path: Path):
    first = Sessions(tmp_path / "session")
    first.keep(8111)
    token = first.token
    session = first.swap(token)
    assert session and first.knows(session) and first.swap(token) is None
    second = Sessions(tmp_path / "session")
    assert (second.knows(session), second.port, second.swap(first.token)) == (True, 8111, None)


def test_the_file_is_the_owner_s_alone_and_one_that_others_can_read_is_not_believed(tmp_path: Path):
    file = tmp_path / "session"
    first = Sessions(file)
    first.keep(1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    session = first.swap(first.token)
    assert session
    file.chmod(0o644)
    assert not Sessions(file).knows(session)
    file.unlink()
    (tmp_path / "other").write_text('{"session": "known", "port": 2}')
    file.symlink_to(tmp_path / "other")
    assert not Sessions(file).knows("known")
    Sessions(file).keep(3)
    assert not file.is_symlink() and "known" in (tmp_path / "other").read_text()


def test_a_file_of_rubbish_makes_a_new_session(tmp_path: Path):
    for text in ("", "[]", "\x00", '{"session": ""}'):
        file = tmp_path / "session"
        file.unlink(missing_ok=True)
        file.touch(0o600)
        file.write_text(text)
        assert not Sessions(file).knows("")
