"""Work on texts in several processes, whose results come in the order of the work."""

import functools
import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import tensorflow as tf

from kseq.errors import UserError

AHEAD = 4  # jobs a process that wait for it, or for those before them


def in_processes(jobs, function, processes=1, worker=None):
    """Yields (name, `function(some)`) for each (name, some) of an iterable, in its order.

    A few jobs are in memory at a time. Other processes are spawned: a program that is a script needs the usual
    `if __name__ == "__main__":`.

    Args:
        jobs: iterable of (name, what the function takes).
        function: called in this process where `processes` is 1.
        processes: how many work.
        worker: function without arguments → the function, made anew in each of several processes.

    Raises:
        UserError: a process has ended; or what the function raises.
    """
    if processes == 1:
        for name, some in jobs:
            yield name, function(some)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (worker,))
    waiting = deque()
    try:
        for name, some in jobs:
            waiting.append((name, pool.submit(_work, some)))
            if len(waiting) == AHEAD * processes:
                name, future = waiting.popleft()
                yield name, future.result()
        while waiting:
            name, future = waiting.popleft()
            yield name, future.result()
    except BrokenProcessPool:
        raise UserError(
            f"one of {processes} processes that read texts has ended, perhaps for want of memory; what is done is "
            "kept: start the same command again, with a smaller data.processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_worker = None


def _begin(worker):
    """Ends with the process that has started this one, leaves Ctrl-C and the GPU to it, and takes one core."""
    global _worker
    _worker = worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


@functools.cache
def _function():
    return _worker()


def _work(some):
    return _function()(some)
