"""The command that serves the page, as a process; covers: calib.studio.serve, calib.cli.studio."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from calib.cli import main


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Start a studio; yield the process, its token and its port."""
    command = [sys.executable, "-P", "-m", "calib", "studio", str(folder), "--no-open", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", line)
        assert found, line
        yield process, found[2], int(found[1])
    finally:
        process.kill()
        process.communicate()


def answer(port: int, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as got:
            got.read()
            return got.status, {name.lower(): value for name, value in got.getheaders()}


def test_the_link_lets_in_and_a_session_survives_kill_9_of_the_server(tmp_path: Path):
    with served(tmp_path) as (process, token, port):
        assert answer(port, "/")[0] == 403
        status, headers = answer(port, f"/?token={token}")
        cookie = headers["set-cookie"].partition(";")[0]
        assert status == 303 and answer(port, "/", cookie=cookie)[0] == 200
        assert "server" not in headers
        second = subprocess.run(
            [sys.executable, "-P", "-m", "calib", "studio", str(tmp_path), "--no-open"], capture_output=True, text=True
        )
        assert (second.returncode, "another calib studio" in second.stderr) == (2, True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with served(tmp_path) as (process, _, again):
        assert again == port and answer(port, "/", cookie=cookie)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_taken_port_a_missing_folder_and_a_bad_size_are_said(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = CliRunner().invoke(main, ["studio", str(tmp_path), "--no-open", "--port", str(port)])
        assert (found.exit_code, "can't be listened on" in found.stderr) == (1, True)
    for options in (["none"], [str(tmp_path), "--allow", "none"], [str(tmp_path), "--most-upload", "much"]):
        assert CliRunner().invoke(main, ["studio", "--no-open", *options]).exit_code == 2
    (tmp_path / "file").write_text("")
    found = CliRunner().invoke(main, ["studio", str(tmp_path), "--no-open", "-o", str(tmp_path / "file")])
    assert (found.exit_code, "choose another folder" in found.stderr) == (1, True)


def test_a_missing_package_names_its_requirement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "starlette", None)
    found = CliRunner().invoke(main, ["studio", str(tmp_path), "--no-open"])
    assert (found.exit_code, "starlette" in found.stderr) == (5, True)


def test_listening_to_other_machines_warns_that_nothing_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("calib.studio.serve.serve", lambda *_, **__: None)
    found = CliRunner().invoke(main, ["studio", str(tmp_path), "--host", "0.0.0.0"])
    assert "no TLS" in found.stderr
    assert "no TLS" not in CliRunner().invoke(main, ["studio", str(tmp_path)]).stderr
