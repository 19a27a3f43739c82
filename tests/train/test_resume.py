"""Nothing that stops a training changes its result: kills, signals, full disks, several ranks."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from train_points import PointsConfig, PointsTask

from graphdiff.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from graphdiff.train import Outcome, Progress, TrainConfig, Trainer
from graphdiff.train.checkpoint import list_checkpoints, load_resume, load_weights
from graphdiff.train.log import read_log

TASK = PointsTask(PointsConfig(dropout=0.1))
CONFIG = TrainConfig(
    steps=40, batch_size=8, lr=1e-2, lr_schedule="cosine", warmup_steps=4, clip=1.0,
    amsgrad=True, log_every=2, checkpoint_every=3, threads=1,
)  # fmt: skip


def run(out: Path, watch: Callable[[Progress], None] | None = None, **changes: Any) -> Outcome:
    config = TrainConfig(**{**vars(CONFIG), **changes})
    return Trainer(TASK, config, out, device="cpu").run(watch)


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a process of its own (forked: torch need not be imported again)."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    run(out)
    return out


def assert_same_end(out: Path, whole: Path) -> None:
    """Weights, averages, optimiser and logged losses have the same bits."""
    for which in ("weights", "ema"):
        a, b = load_weights(out, which), load_weights(whole, which)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    mine, theirs = (
        load_resume(list_checkpoints(p)[-1])["optimizer"]["state"] for p in (out, whole)
    )
    for key, state in mine.items():
        assert all(torch.equal(value, theirs[key][name]) for name, value in state.items())
    # Records end where the training was stopped, so only complete runs share all records.
    losses = [{r["step"]: r["loss"] for r in records(p)} for p in (out, whole)]
    shared = [step for step in losses[1] if step in losses[0]]
    assert len(shared) > 20
    assert [losses[0][s] for s in shared[-3:]] == [losses[1][s] for s in shared[-3:]]
    steps = [r["step"] for r in records(out)]
    assert steps == sorted(set(steps))


def records(out: Path) -> Iterator[dict[str, Any]]:
    return read_log(out / "log.jsonl", "train")


def test_killed_again_and_again(tmp_path: Path, whole: Path) -> None:
    """SIGKILL at random moments, in steps and in the middle of writing checkpoints."""
    chance = random.Random(time.time_ns())
    kills = 0
    for attempt in range(30):
        child = in_child(lambda: run(tmp_path))
        # On an idle machine a whole run takes less than the longest wait: the first one is short.
        time.sleep(chance.uniform(0.0, 0.25 if attempt else 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            break
        kills += 1
    assert kills >= 1
    assert run(tmp_path).finished
    assert_same_end(tmp_path, whole)
    assert all(not p.name.startswith(".") for p in (tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("moment", ["_write_tensors", "put_folder", "prune"])
def test_killed_inside_a_checkpoint(
    tmp_path: Path, whole: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphdiff.train import checkpoint, store

    home = store if moment == "prune" else checkpoint
    original = getattr(home, moment)
    calls = []

    def deadly(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    monkeypatch.setattr(home, moment, deadly)
    _, status = os.waitpid(in_child(lambda: run(tmp_path)), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    monkeypatch.undo()
    assert list_checkpoints(tmp_path)
    run(tmp_path)
    assert_same_end(tmp_path, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_says_so(tmp_path: Path, whole: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def stop(progress: Progress) -> None:
        if progress.step == 10:
            os.kill(os.getpid(), number)

    outcome = run(tmp_path, stop)
    assert signal.getsignal(number) is before
    assert (outcome.finished, outcome.step, outcome.signal) == (False, 11, number)
    assert outcome.model.name == "step-000000011"
    assert f"stopped by {number.name} after step 11 of 40" in outcome.message
    assert [r["event"] for r in read_log(tmp_path / "log.jsonl")][-1] == "stop"
    assert run(tmp_path).finished
    assert_same_end(tmp_path, whole)


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    trainer = Trainer(TASK, CONFIG, tmp_path, device="cpu")
    events = trainer.events()
    next(events)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    events.close()


def test_left_generator_and_other_threads(tmp_path: Path, whole: Path) -> None:
    """Leaving the generator is a stop, too; handlers are not touched outside the main thread."""
    trainer = Trainer(TASK, CONFIG, tmp_path, device="cpu")
    for progress in trainer.events():
        if progress.step == 8:
            break
    errors: list[BaseException] = []

    def work() -> None:
        try:
            trainer.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors
    assert_same_end(tmp_path, whole)


def test_longer_training_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "a", steps=20, lr_schedule="constant")
    run(tmp_path / "a", steps=40, lr_schedule="constant", keep=1, log_every=5)
    run(tmp_path / "b", steps=40, lr_schedule="constant")
    a, b = load_weights(tmp_path / "a"), load_weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert len(list_checkpoints(tmp_path / "a")) == 1
    with pytest.raises(ConfigError, match="has made 40 steps already"):
        run(tmp_path / "a", steps=10, lr_schedule="constant")


def test_another_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path, steps=3)
    with pytest.raises(ConfigError, match=r"train\.lr was 0\.01, is 0\.5"):
        run(tmp_path, lr=0.5)
    other = PointsTask(PointsConfig(dropout=0.2, examples=49))
    with pytest.raises(ConfigError, match=r"task\.examples was 50, is 49; .*data\.n was 50"):
        Trainer(other, CONFIG, tmp_path, device="cpu").run()
    newest = list_checkpoints(tmp_path)[-1]
    (newest / "resume.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="Remove that folder"):
        run(tmp_path)


def test_one_training_in_a_folder(tmp_path: Path) -> None:
    events = Trainer(TASK, CONFIG, tmp_path, device="cpu").events()
    next(events)
    with pytest.raises(TrainingError, match="another training is running"):
        run(tmp_path)
    events.close()
    assert run(tmp_path, steps=4).finished


@pytest.mark.parametrize("victim", ["weights", "average", "resume", "card", "rename"])
def test_full_disk_keeps_the_earlier_checkpoint(
    tmp_path: Path, whole: Path, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphdiff.train import checkpoint

    name = {"resume": "torch.save", "card": "write_text", "rename": "put_folder"}
    target = name.get(victim, "_write_tensors")
    home: Any = torch if target == "torch.save" else checkpoint
    attribute = target.removeprefix("torch.")
    original = getattr(home, attribute)
    # The third checkpoint fails; weights and averages take two calls for each.
    fatal = {"weights": 5, "average": 6}.get(victim, 3)
    calls = []

    def full(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == fatal:
            path = next(a for a in arguments if isinstance(a, Path))
            if victim != "rename":
                path.write_bytes(b"half of i")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return original(*arguments)

    monkeypatch.setattr(home, attribute, full)
    with pytest.raises(TrainingError, match="No space left on device") as caught:
        run(tmp_path)
    monkeypatch.undo()
    assert "checkpoint at step 9" in str(caught.value)
    assert "the newest complete checkpoint is" in str(caught.value)
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-000000003", "step-000000006",
    ]  # fmt: skip
    run(tmp_path)
    assert_same_end(tmp_path, whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() != 0 or not mount or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_disk_that_is_really_full(small_disk: Path, whole: Path) -> None:
    out, filler = small_disk / "run", small_disk / "filler"

    def fill(progress: Progress) -> None:
        if progress.step != 8:
            return
        with filler.open("wb", buffering=0) as file:
            for size in (4096, 512):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    with pytest.raises(TrainingError, match="No space left"):
        run(out, fill)
    assert [p.name for p in list_checkpoints(out)] == ["step-000000003", "step-000000006"]
    assert load_weights(out)
    filler.unlink()
    run(out)
    assert_same_end(out, whole)


def test_log_damage(tmp_path: Path) -> None:
    run(tmp_path, steps=4)
    path = tmp_path / "log.jsonl"
    with path.open("ab") as file:
        file.write(b'{"event": "tr')
    assert [r["event"] for r in read_log(path)][-1] == "end"
    path.write_bytes(b"{\n" + path.read_bytes())
    with pytest.raises(DataError, match=r"log\.jsonl, line 1"):
        list(read_log(path))
    with pytest.raises(DataError, match="no training log"):
        list(read_log(tmp_path / "gone"))


def test_two_processes_are_one(tmp_path: Path) -> None:
    """The same losses, whatever the shares: batches of 8 and a last one of 1 over two ranks."""
    task = PointsTask(PointsConfig(examples=49))
    config = TrainConfig(steps=14, batch_size=8, lr=1e-2, clip=1.0, log_every=1, threads=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def rank(number: int) -> None:
        os.environ.update(
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE="2",
            RANK=str(number), LOCAL_RANK=str(number),
        )  # fmt: skip
        # A rank that starts from other weights must get those of rank 0.
        start = PointsTask(PointsConfig(examples=49)) if number == 0 else Disturbed(task.config)
        Trainer(start, config, tmp_path / "two", device="cpu").run()

    children = [in_child(lambda number=number: rank(number)) for number in (0, 1)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    Trainer(task, config, tmp_path / "one", device="cpu").run()
    one, two = (list(records(tmp_path / name)) for name in ("one", "two"))
    assert len(one) == len(two) == 14
    for a, b in zip(one, two, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
    torch.testing.assert_close(
        load_weights(tmp_path / "two"), load_weights(tmp_path / "one"), rtol=1e-3, atol=1e-5
    )


class Disturbed(PointsTask):
    """Starts from other weights."""

    def build(self) -> Any:
        denoiser = super().build()
        with torch.no_grad():
            for parameter in denoiser.parameters():
                parameter += 1
        return denoiser


@pytest.mark.slow
def test_fresh_interpreters(tmp_path: Path) -> None:
    """The kill test and Ctrl-C with real commands."""
    script = Path(__file__).parent / "support" / "train_points.py"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def start(out: str, *extra: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(tmp_path / out), *extra]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def until(process: subprocess.Popen[str], step: int) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == f"0: step {step}":
                return

    start("whole").communicate()
    for step, number in ((5, signal.SIGKILL), (17, signal.SIGINT), (29, signal.SIGKILL)):
        process = start("cut", "--pause", "0.05")
        until(process, step)
        process.send_signal(number)
        rest = process.communicate()[0]
        assert ("stopped by SIGINT" in rest) == (number is signal.SIGINT)
    start("cut").communicate()
    for which in ("weights", "ema"):
        a, b = load_weights(tmp_path / "cut", which), load_weights(tmp_path / "whole", which)
        assert all(torch.equal(a[name], b[name]) for name in a)
