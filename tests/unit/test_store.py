from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from calib import store as module
from calib.errors import MetricError, OutputError, StatisticsError
from calib.store import RunStore, remembered, remembered_latency

A, B = frozenset({"a"}), frozenset({"a", "b"})
BLOCK = np.array([3, 1, 2])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.sqlite"


def test_verdict_is_known_to_another_connection_at_once(path):
    with RunStore(path) as store, RunStore(path) as other:
        assert other.known("run", A) == {}
        store.keep_verdict("run", A, BLOCK, [1.0, 0.0, 1.0])
        assert other.known("run", A) == {3: 1.0, 1: 0.0, 2: 1.0}
        assert other.verdicts("run") == 1


def test_verdicts_of_other_runs_and_plans_are_kept_apart(path):
    with RunStore(path) as store:
        store.keep_verdict("run", A, BLOCK, [1, 2, 3])
        store.keep_verdict("run", A, BLOCK.astype(np.int32), [4, 5, 6])  # the numbers count, not their type
        assert store.known("run", A) == {3: 4, 1: 5, 2: 6} and store.verdicts("run") == 1
        assert store.known("other", A) == store.known("run", B) == {}


def test_floats_come_back_to_the_last_bit(path):
    values = [0.1, 1 / 3, 5e-324, -0.0, float("inf")]
    with RunStore(path) as store:
        store.keep_verdict("run", A, np.arange(5), values)
        assert list(store.known("run", A).values()) == values


def test_numpy_values_are_kept_as_numbers_and_lists(path):
    with RunStore(path) as store:
        store.keep_verdict("run", A, np.arange(2), [np.float32(0.5), [np.array([1, 2]), "text"]])
        assert store.known("run", A) == {0: 0.5, 1: [[1, 2], "text"]}


def test_parts_that_do_not_fit_are_refused_and_nothing_is_kept(path):
    with RunStore(path) as store:
        with pytest.raises(MetricError, match="2 parts for 3 samples"):
            store.keep_verdict("run", A, BLOCK, [1, 2])
        with pytest.raises(MetricError, match="numbers, strings"):
            store.keep_verdict("run", A, BLOCK, [{1}, {2}, {3}])
        assert store.verdicts("run") == 0


def test_facts_replace_older_ones_and_are_none_where_unknown(path):
    with RunStore(path) as store:
        store.put("run", "bytes", "abc")
        store.put("run", "bytes", {"sha": [1, None]})
        assert store.get("run", "bytes") == {"sha": [1, None]}
        assert store.get("run", "other") is None


def test_ranking_and_timings_come_back_in_order(path):
    ranking = [(B, float("inf")), (A, 1e-7)]
    with RunStore(path) as store:
        assert store.ranking("run") is None and store.timings("run", [A, B]) is None
        store.keep_ranking("run", [(A, 1.0)])
        store.keep_ranking("run", ranking)
        store.keep_timings("run", [B, A], [1.5, float("nan")])
    with RunStore(path) as store:
        assert store.ranking("run") == ranking
        assert store.timings("run", [B, A]) == [1.5, float("inf")]
        assert store.timings("run", [A, B]) is None  # another race


def test_remembered_evaluation_runs_once_and_gives_what_json_gives(path):
    calls = []

    def evaluate(reverted, indices):
        calls.append(sorted(reverted))
        return [(float(i), "x") for i in indices]

    with RunStore(path) as store:
        first = remembered(store, "run", evaluate)(A, BLOCK)
    with RunStore(path) as store:
        again = remembered(store, "run", evaluate)(A, BLOCK)
    assert first == again == [[3.0, "x"], [1.0, "x"], [2.0, "x"]]
    assert calls == [["a"]]


def test_failed_evaluation_leaves_nothing_behind(path):
    def fails(reverted, indices):
        raise KeyboardInterrupt

    with RunStore(path) as store:
        with pytest.raises(KeyboardInterrupt):
            remembered(store, "run", fails)(A, BLOCK)
        assert store.verdicts("run") == 0


def test_samples_that_are_known_are_not_evaluated_again_in_other_portions(path):
    asked = []

    def evaluate(reverted, indices):
        asked.append(indices.tolist())
        return [float(i) for i in indices]

    with RunStore(path) as store:
        ask = remembered(store, "run", evaluate)
        ask(A, np.array([4, 1]))
        assert ask(A, np.array([1, 2, 3, 4])) == [1.0, 2.0, 3.0, 4.0]
        assert ask(A, np.array([3, 1])) == [3.0, 1.0]
        assert ask(B, np.array([1])) == [1.0]
    assert asked == [[4, 1], [2, 3], [1]]


def test_remembered_latency_times_the_same_finalists_once(path):
    calls = []

    def latency(plans):
        calls.append(len(plans))
        return [1.0 + len(calls)] * len(plans)

    with RunStore(path) as store:
        timed = remembered_latency(store, "run", latency)
        assert timed([A, B]) == timed([A, B]) == [2.0, 2.0]
        assert timed([A, B, frozenset()]) == [3.0, 3.0, 3.0]
    assert calls == [2, 3]


def test_transaction_is_all_or_nothing(path):
    with RunStore(path) as store:
        with pytest.raises(RuntimeError), store.transaction() as connection:
            connection.execute("INSERT INTO facts VALUES ('run', 'key', '1')")
            raise RuntimeError
        assert store.get("run", "key") is None
        store.put("run", "key", 2)  # and the store goes on working
        assert store.get("run", "key") == 2


def test_file_is_synced_at_each_commit(path):
    with RunStore(path) as store:
        assert store.read("PRAGMA journal_mode") == [("wal",)]
        assert store.read("PRAGMA synchronous") == [(2,)]


def test_killed_process_loses_only_what_was_in_flight(path):
    script = f"""
        import os, signal
        import numpy as np
        from calib.store import RunStore
        store = RunStore({str(path)!r})
        for i in range(3):
            store.keep_verdict("run", frozenset([str(i)]), np.arange(2), [i, i])
        with store.transaction() as connection:
            connection.execute("INSERT INTO facts VALUES ('run', 'in flight', '1')")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=dict(os.environ), check=False)
    assert ended.returncode == -signal.SIGKILL
    with RunStore(path) as store:
        assert [store.known("run", frozenset([str(i)])) for i in range(3)] == [{0: i, 1: i} for i in range(3)]
        assert store.get("run", "in flight") is None


def test_empty_file_left_by_a_kill_at_creation_is_taken_over(path):
    path.touch()
    with RunStore(path) as store:
        store.put("run", "key", 1)


# Eight processes open one new file at the same moment, many times: each says nothing, or what it met.
STARTING = """
    import os, sys
    from pathlib import Path
    from calib.store import RunStore
    for number in range(12):
        path, (gate, opened) = Path(sys.argv[1], f"{number}.sqlite"), os.pipe()
        children = []
        for _ in range(8):
            if not (child := os.fork()):
                os.close(opened)
                os.read(gate, 1)  # ends for all at once, when the parent closes the other end
                try:
                    with RunStore(path) as store:
                        store.put("run", str(os.getpid()), 1)
                except BaseException as error:
                    print(error, flush=True)
                os._exit(0)
            children.append(child)
        os.close(gate)
        os.close(opened)
        for child in children:
            os.waitpid(child, 0)
        with RunStore(path) as store:
            assert store.read("SELECT count(*) FROM facts") == [(8,)], number
"""


def test_processes_that_open_a_new_file_at_once_all_succeed(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(STARTING), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_opening_waits_for_a_writer_of_a_file_that_is_not_written_ahead_yet(path):
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.3, writer.execute, ["COMMIT"])
    ends.start()
    with RunStore(path, timeout=60) as store:
        store.put("run", "key", 1)
    ends.join()
    writer.close()


def test_foreign_file_is_refused_untouched(path):
    path.write_bytes(b"this is a text, not a database. " * 40)
    with pytest.raises(StatisticsError, match="not a run store"):
        RunStore(path)
    assert path.read_bytes() == b"this is a text, not a database. " * 40


def test_another_programs_database_is_refused_untouched(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StatisticsError, match="another program"):
        RunStore(path)
    assert path.read_bytes() == before


def test_store_of_a_newer_calib_is_refused(path):
    RunStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StatisticsError, match="newer calib"):
        RunStore(path)


def test_damaged_file_is_named_with_the_way_out(path):
    with RunStore(path) as store:
        for i in range(200):
            store.put("run", str(i), "x" * 200)
    data = bytearray(path.read_bytes())
    data[4096 : len(data) - 100] = b"\xff" * (len(data) - 100 - 4096)
    path.write_bytes(data)
    with pytest.raises(StatisticsError, match="damaged"):
        RunStore(path)


def test_a_store_that_lacks_a_table_is_damaged_and_no_full_disk(path):
    with RunStore(path) as store:
        with store.transaction() as connection:
            connection.execute("DROP TABLE verdicts")
        with pytest.raises(StatisticsError, match=r"damaged \(no such table"):
            store.known("run", A)


def test_damaged_row_is_found_when_it_is_read(path):
    with RunStore(path) as store:
        store.keep_verdict("run", A, BLOCK, [1, 2, 3])
        with store.transaction() as connection:
            connection.execute("UPDATE verdicts SET parts = '[1, 2'")
        with pytest.raises(StatisticsError, match="damaged"):
            store.known("run", A)
        with store.transaction() as connection:
            connection.execute("UPDATE verdicts SET parts = '[1, 2]'")
        with pytest.raises(StatisticsError, match="3 parts"):
            store.known("run", A)


def test_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="folder"):
        RunStore(tmp_path / "missing" / "run.sqlite")


def test_writer_that_waits_too_long_says_so(path):
    busy = pytest.raises(OutputError, match="in use elsewhere")
    with RunStore(path) as store, RunStore(path, timeout=0.05) as other, store.transaction(), busy:
        other.put("run", "key", 1)


def test_older_file_is_migrated_and_keeps_its_rows(path, monkeypatch):
    with RunStore(path) as store:
        store.put("run", "key", 1)
    added = "CREATE TABLE added (id TEXT PRIMARY KEY); CREATE INDEX by_id ON added (id);"
    before = len(module.MIGRATIONS)
    monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, added))
    for _ in range(2):  # the second opening finds nothing to do
        with RunStore(path) as store:
            assert store.read("SELECT count(*) FROM added") == [(0,)]
            assert store.get("run", "key") == 1
            assert store.read("PRAGMA user_version") == [(before + 1,)]


def test_ranking_of_an_older_file_is_kept(path, monkeypatch):
    monkeypatch.setattr(module, "MIGRATIONS", module.MIGRATIONS[:3])
    with RunStore(path) as store, store.transaction() as connection:
        connection.execute("INSERT INTO rankings VALUES ('run', 0, '[\"a\"]', 0.5, 0.0)")
        connection.execute("INSERT INTO rankings VALUES ('run', 1, '[\"b\"]', 1e-7, 0.0)")
    monkeypatch.undo()
    with RunStore(path) as store:
        assert store.ranking("run") == [(frozenset("a"), 0.5), (frozenset("b"), 1e-7)]


def test_a_store_that_can_not_be_written_is_still_read(path, monkeypatch):
    with RunStore(path) as store:
        store.put("run", "key", 3)
    monkeypatch.setattr(module.os, "access", lambda *_: False)  # as on a read-only file system
    files = sorted(path.parent.iterdir())
    with RunStore(path, look=True) as store:
        assert store.get("run", "key") == 3
        with pytest.raises(OutputError):
            store.put("run", "key", 4)
    assert sorted(path.parent.iterdir()) == files


def test_a_store_whose_text_is_damaged_is_said_to_be(path):
    with RunStore(path) as store:
        store.put("run", "key", "value")
    data = path.read_bytes()
    assert b"CREATE TABLE facts" in data
    path.write_bytes(data.replace(b"CREATE TABLE facts", b"CREATE TABLE f\xf3cts"))
    with pytest.raises(StatisticsError, match="damaged"):
        RunStore(path)
