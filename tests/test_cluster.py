"""`TF_CONFIG`, read and written."""

import json
import re

import pytest

from kseq.cluster import Worker, read_worker, tf_config
from kseq.errors import UserError

TWO = {"worker": ["a:1", "b:2"]}


def config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "worker"),
    [
        (config(TWO), Worker(0, 2)),
        (config(TWO, index=1), Worker(1, 2)),
        (config(TWO, index="1"), Worker(1, 2)),
        (config({"chief": ["c:3"], **TWO}, "chief"), Worker(0, 3)),
        (config({"chief": ["c:3"], **TWO}, index=1), Worker(2, 3)),
        (tf_config(["127.0.0.1:5", "127.0.0.1:6", "127.0.0.1:7"], 2), Worker(2, 3)),
    ],
)
def test_a_worker_is_read(text, worker):
    assert read_worker(text) == worker
    assert worker.chief == (worker.number == 0)


@pytest.mark.parametrize("text", [None, ""])
def test_a_missing_variable_is_named(text):
    with pytest.raises(
        UserError, match=r"multi_worker needs the environment variable TF_CONFIG, such as .*kseq.launch"
    ):
        read_worker(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is not JSON"),
        ("[]", 'must be a table with "cluster" and "task"'),
        ('{"cluster": {}, "task": 1}', 'must be a table with "cluster" and "task"'),
        (config({}), "at least one worker, and one chief at most"),
        (config({"ps": ["a:1"]}), "cluster may have chief and worker, it has 'ps'"),
        (config({"worker": "a:1"}), "cluster.worker must be a list of addresses, it is 'a:1'"),
        (config({"worker": ["a"]}), "must hold addresses such as 10.0.0.1:2222, it holds 'a'"),
        (config({"worker": ["a:1", "a:1"]}), "a:1 comes twice"),
        (config({"chief": ["a:1", "b:1"], "worker": ["c:1"]}), "one chief at most"),
        (config(TWO, "evaluator"), "task.type must be worker, it is 'evaluator'"),
        (config(TWO, index=2), "task.index must be a whole number from 0 to 1, it is 2"),
        (config(TWO, index=True), "task.index must be a whole number from 0 to 1, it is True"),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_allowed(text, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_worker(text)
    assert str(error.value).startswith(f"TF_CONFIG is {text}") and "an example: {" in str(error.value)
