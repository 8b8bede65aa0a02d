"""Starts the workers of one training on this machine, each a process of its own.

    python -m kseq.launch --workers 2 -- python -m kseq.tasks.translate --set training.strategy=multi_worker

Each runs the same command, with the `TF_CONFIG` that makes it one of the workers on free ports of 127.0.0.1. The lines
that it writes get its number before them. When one fails, the others are ended, and its exit status is that of the
launcher; so are they by Ctrl-C and SIGTERM. No worker outlives the launcher.
"""

import argparse
import contextlib
import ctypes
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time

from kseq.cluster import VARIABLE, tf_config

PATIENCE = 20  # seconds from the request to end until a worker is killed
HOST = "127.0.0.1"


class Workers:
    """The processes of a training.

    Args:
        command: list of str, of each worker.
        count: how many.
        out: text file for what they write to their standard output.
        err: text file for what they write to their standard error.
    """

    def __init__(self, command, count, out, err):
        self.ended = queue.SimpleQueue()  # of (number, exit status), and of signals as (None, number)
        self.lock = threading.Lock()
        self.running, self.readers = {}, []
        addresses = [f"{HOST}:{port}" for port in free_ports(count)]
        try:
            for number in range(count):
                self.running[number] = _start(command, tf_config(addresses, number))
        except OSError:
            self.end(signal.SIGKILL)
            raise
        for number, process in self.running.items():
            pipes = [(process.stdout, out), (process.stderr, err)]
            readers = [threading.Thread(target=self._copy, args=(number, *pipe)) for pipe in pipes]
            self.readers += [*readers, threading.Thread(target=self._watch, args=(number, process))]
        for reader in self.readers:
            reader.daemon = True
            reader.start()

    def _copy(self, number, source, target):
        with source:
            for line in source:
                with self.lock, contextlib.suppress(OSError, ValueError):  # where nobody reads it any more
                    print(f"[{number}] {line.rstrip(chr(10))}", file=target, flush=True)

    def _watch(self, number, process):
        self.ended.put((number, process.wait()))

    def wait(self):
        """Waits for all to end well, or for one to fail, or for a signal. Returns (number or None, exit status)."""
        while self.running:
            number, status = self.ended.get()
            if number is None or status:
                self.running.pop(number, None)
                return number, status
            del self.running[number]
        return None, 0

    def end(self, signal_number):
        """Ends those that still run and what they have started: by the signal, and at last by SIGKILL."""
        self._send(signal_number)
        deadline = time.monotonic() + PATIENCE
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0, deadline - time.monotonic()))
        self._send(signal.SIGKILL)
        for reader in self.readers:
            reader.join(2)

    def _send(self, signal_number):
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal_number)


def free_ports(count):
    """So many ports of this machine that nobody listens on, all different."""
    with contextlib.ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in bound:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in bound]


def _start(command, config):
    """A worker, in a group of processes of its own: Ctrl-C of the terminal comes to it from the launcher alone."""
    return subprocess.Popen(
        command,
        env=os.environ | {VARIABLE: config, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, for a launcher that is killed itself


def launch(command, count, out, err):
    """Runs the workers and returns the exit status: 0, that of the first that fails, or 128 and the number of a signal.

    Args:
        command: list of str.
        count: number of workers.
        out: text file for their standard output.
        err: text file for their standard error and for what the launcher says.

    Raises:
        OSError: the command cannot be started.
    """
    workers = Workers(command, count, out, err)
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    usual = {number: signal.signal(number, lambda n, _: workers.ended.put((None, n))) for number in handled}
    try:
        number, status = workers.wait()
        if number is not None:
            reason = f"was ended by signal {-status}" if status < 0 else f"failed with exit status {status}"
            others = f"; ending the other {len(workers.running)}" if workers.running else ""
            print(f"worker {number} of {count} {reason}{others}", file=err, flush=True)
        workers.end(status if number is None and status else signal.SIGTERM)
    finally:
        for number_, handler in usual.items():
            signal.signal(number_, handler)
    return 128 + abs(status) if status < 0 or (number is None and status) else status


def main(arguments):
    """Reads the arguments, launches, and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m kseq.launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="python -m kseq.launch --workers N -- COMMAND ...",
    )
    parser.add_argument("--workers", type=int, required=True, help="how many processes to start, at least 1")
    parser.add_argument("command", nargs="+", help="what each of them runs")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers must be at least 1, it is {options.workers}")
    if VARIABLE in os.environ:
        parser.error(f"{VARIABLE} is set, so a cluster has started this process already; run the command itself")
    try:
        return launch(options.command, options.workers, sys.stdout, sys.stderr)
    except OSError as error:
        parser.error(f"{options.command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
