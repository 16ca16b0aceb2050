"""Runner of the planned runs: trains and evaluates each in processes of their own, and goes on after a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from shlex import join

from tqdm import tqdm

from .. import __version__
from ..config.packaged import checkout
from ..utils.folder_lock import BusyError, FolderLock
from ..utils.text import parse_json
from .evaluations import Evaluation
from .plan import OUTPUT, PlannedRun, begin_record, end_record

LOOK = 5.0  # seconds from one look at what is under way to the next
GRACE = 120.0  # seconds that a training has to save after SIGTERM


class Runner:
    """Trains and evaluates runs with `jobs` processes at a time.

    A run that fails is reported and the others go on; KeyboardInterrupt or SIGTERM asks trainings to save and leave,
    and starting again goes on from there.

    Args:
        program: what comes between Python and a command: ("-m", "qgface_plugin").
        evaluations: of each run.
        jobs: runs at a time.
        commit: recorded with every step.
        say: prints a line.
    """

    def __init__(
        self,
        program: Sequence[str],
        evaluations: Sequence[Evaluation],
        jobs: int,
        commit: str,
        say: Callable[[str], None],
    ) -> None:
        self.program, self.evaluations, self.jobs, self.commit, self.say = program, evaluations, jobs, commit, say
        self._stop, self._guard = threading.Event(), threading.Lock()
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._now: dict[Path, tuple[PlannedRun, str]] = {}

    def make(self, runs: Sequence[PlannedRun], progress: bool = True) -> list[str]:
        """Make what is missing of `runs`.

        Args:
            runs: in the order in which they begin.
            progress: show a bar.

        Returns:
            What went wrong, one sentence each.

        Raises:
            KeyboardInterrupt: it was interrupted; the trainings have saved.
        """
        problems = []
        with _sigterm_as_interrupt(), ThreadPoolExecutor(self.jobs) as pool:
            waiting = {pool.submit(self._make, run) for run in runs}
            bar = tqdm(total=len(runs), unit="run", disable=not progress, smoothing=0)
            try:
                while waiting:
                    ended, waiting = wait(waiting, LOOK, FIRST_COMPLETED)
                    for done in ended:
                        if problem := done.result():
                            problems.append(problem)
                            self.say(problem)
                        bar.update()
                    bar.set_postfix_str(self.under_way())
            except KeyboardInterrupt:
                self._leave()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                bar.close()
        return problems

    def under_way(self) -> str:
        """What is being done, for the bar: "table1_a_seed1: train, step 1200", one after the other."""
        with self._guard:
            now = list(self._now.values())
        return "; ".join(f"{run.folder.name}: {what}{_step_of(run) if what == 'train' else ''}" for run, what in now)

    def missing(self, run: PlannedRun) -> list[str]:
        """The steps that `run` still needs: "train", and names of protocols."""
        if not run.trained():
            return ["train", *(evaluation.protocol for evaluation in self.evaluations)]
        return [evaluation.protocol for evaluation in self.evaluations if not evaluation.done(run.model)]

    def _make(self, run: PlannedRun) -> str | None:
        """Everything that is missing of one run; what went wrong, if anything did."""
        if self._stop.is_set() or not self.missing(run):
            return None
        lock = FolderLock(run.folder)  # the children hold it too, so it outlives a killed parent as long as they live
        try:
            lock.acquire()
        except BusyError as error:
            return str(error)
        with closing(lock):
            if not run.trained():
                run.write()
                if problem := self._step(run, "train", ["train", str(run.recipe)], lock.fileno()):
                    return problem
            for evaluation in self.evaluations:
                if self._stop.is_set():
                    return None
                if not evaluation.done(run.model):
                    command = evaluation.command(run.model)
                    if problem := self._step(run, evaluation.protocol, command, lock.fileno()):
                        return problem
        return None

    def _step(self, run: PlannedRun, what: str, arguments: list[str], lock: int) -> str | None:
        command = join(["qgface", *arguments])
        started, clock = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
        begin_record(run, {"what": what, "command": command, "commit": self.commit, "started": started})
        with open(run.folder / OUTPUT, "ab") as output:
            with self._guard:
                if self._stop.is_set():
                    return None
                process = subprocess.Popen(
                    [sys.executable, *self.program, *arguments],
                    stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                    env=self._environment(), pass_fds=(lock,), start_new_session=True,
                )  # fmt: skip
                self._alive.add(process)
                self._now[run.folder] = (run, what)
            status = process.wait()
        with self._guard:
            self._alive.discard(process)
            self._now.pop(run.folder, None)
        seconds = time.monotonic() - clock
        end_record(run, seconds, status)
        if status == 0:
            self.say(f"{run.folder.name}: {what} done in {seconds:.0f} s")
            return None
        return None if self._stop.is_set() else f"{run.folder}: {what} failed ({status}): {_last_words(run)}"

    def _environment(self) -> dict[str, str]:
        """The children's: this package, the built-in loop, data as the recipe says, and their share of the cores."""
        left_out = ("DATA_ROOT", "ARCFACE_TORCH")
        environment = {key: value for key, value in os.environ.items() if key not in left_out}
        if here := checkout():  # which need not be installed; what is installed is found as it is
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH"))))
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.jobs)))
        return environment

    def _leave(self) -> None:
        with self._guard:
            self._stop.set()
            alive = list(self._alive)
        for process in alive:
            with suppress(ProcessLookupError):
                process.terminate()
        for process in alive:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()


def _step_of(run: PlannedRun) -> str:
    """How far its training has come, from the end of its metrics.jsonl; "" where it has not begun."""
    try:
        if not (run.folder / "metrics.jsonl").is_file():  # a FIFO would wait for a writer
            return ""
        with open(run.folder / "metrics.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        with suppress(ValueError, KeyError, TypeError):  # DataError is a ValueError
            found = parse_json(line.decode("utf-8", "replace"), "metrics.jsonl")
            return f", epoch {int(found['epoch']) + 1} of {run.config.get('num_epoch', 20)}, step {found['step']}"
    return ""


def _last_words(run: PlannedRun) -> str:
    lines = (run.folder / OUTPUT).read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{last} (all of it: {run.folder / OUTPUT})"


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    watched = [number for number, handler in before.items() if handler is not signal.SIG_IGN]  # as nohup has it
    for number in watched:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in watched:
            signal.signal(number, before[number])


def code_version() -> str:
    """What the code is: the commit of the project's checkout, or the version that is installed without one."""
    here = checkout()
    return git_commit(here) if here else f"qgface-plugin {__version__}"


def git_commit(root: Path) -> str:
    """The commit of the checkout, with "+changes" where files differ from it; "unknown" outside of one."""
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit[:12] + ("+changes" if changed.stdout.strip() else "")
