"""What a program does for its whole process."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from kseq.tasks import runner

def mode():
    import tensorflow as tf
    tf.constant(1)  # TensorFlow begins
    names = [open(f"/proc/self/task/{thread}/comm").read().strip() for thread in os.listdir("/proc/self/task")]
    print(names.count("tf_Compute"), "threads")

sys.argv, runner.plan_of = ["caption"], lambda *_: [mode]
runner.main(type("Task", (), {"name": "caption"}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are looked up in /proc")
@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"TF_NUM_INTEROP_THREADS": "2"}, 2)])
def test_operations_are_done_one_at_a_time_where_the_environment_does_not_say_otherwise(given, threads):
    environment = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTEROP_THREADS"} | given
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout == f"{threads} threads\n"
