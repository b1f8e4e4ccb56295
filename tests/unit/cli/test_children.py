"""Child processes: logs are followed, deaths are told."""

import os
import signal
import sys
from pathlib import Path

from shortstack.children import Child, ChildPlan, LogReader
from tests.polling import poll_until


def start(program: str, tmp_path: Path) -> Child:
    command = (sys.executable, "-c", program)
    return Child(ChildPlan("worker-0", command, dict(os.environ)), tmp_path / "worker.log")


def test_only_whole_lines_of_json_objects_are_events(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{"event": "a"}\nnoise\n{broken\n[1]\n{"event": "b"')
    reader = LogReader(path)
    assert reader.read() == [{"event": "a"}]
    with path.open("a") as log:
        log.write("}\n")
    assert reader.read() == [{"event": "b"}]
    assert reader.read() == []


async def test_a_dead_childs_last_lines_are_shown(tmp_path: Path) -> None:
    child = start("import sys; sys.exit('no such model')", tmp_path)
    await poll_until(lambda: child.exit_status is not None)
    assert "worker-0 ended with status 1" in child.describe_end()
    assert "no such model" in child.describe_end()


async def test_a_signal_reaches_the_childs_whole_group(tmp_path: Path) -> None:
    child = start("import time; print('up', flush=True); time.sleep(60)", tmp_path)
    await poll_until(lambda: "up" in child.log_path.read_text())
    child.send(signal.SIGTERM)
    await poll_until(lambda: child.exit_status is not None)
    assert "signal 15" in child.describe_end()


async def test_what_another_process_wrote_to_the_log_before_is_no_event(tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text('{"event": "listening", "address": "old"}\n')
    child = start('print(\'{"event": "new"}\', flush=True)', tmp_path)
    await poll_until(lambda: child.exit_status is not None)
    assert child.log.read() == [{"event": "new"}]
