"""The workers that train together, as `TF_CONFIG` names them to each: a JSON table of TensorFlow's.

{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}
"""

import json
import re
from typing import NamedTuple

from kseq.errors import UserError

VARIABLE = "TF_CONFIG"
EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'


class Worker(NamedTuple):
    """One of the workers."""

    number: int  # from 0
    count: int

    @property
    def chief(self):
        """Whether it is the one that writes to the folder of the run."""
        return self.number == 0


ALONE = Worker(0, 1)


def tf_config(addresses, number):
    """The `TF_CONFIG` of worker `number` of those at these addresses, `host:port` each."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": number}})


def read_worker(text):
    """The `Worker` that a `TF_CONFIG` makes of this process; the chief, where there is one, is number 0.

    Args:
        text: the variable's value; None where it is not set.

    Raises:
        UserError: there is none, it is not what TensorFlow reads, or it names tasks other than chief and workers.
    """
    if not text:
        raise UserError(
            f"training.strategy=multi_worker needs the environment variable {VARIABLE}, such as {EXAMPLE}; "
            "`python -m kseq.launch --workers 2 -- COMMAND` sets it on one machine"
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(text, f"it is not JSON ({error})") from None
    task = value.get("task") if isinstance(value, dict) else None
    cluster = value.get("cluster") if isinstance(value, dict) else None
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise _wrong(text, 'it must be a table with "cluster" and "task"')
    addresses = _addresses(text, cluster)
    kind, index = task.get("type"), task.get("index")
    if kind not in addresses:
        raise _wrong(text, f"task.type must be {' or '.join(addresses)}, it is {kind!r}")
    if isinstance(index, str) and index.isascii() and index.isdigit():
        index = int(index)  # as some launchers write it, and TensorFlow reads it
    if type(index) is not int or not 0 <= index < len(addresses[kind]):
        raise _wrong(text, f"task.index must be a whole number from 0 to {len(addresses[kind]) - 1}, it is {index!r}")
    before = len(addresses.get("chief", ())) if kind == "worker" else 0
    return Worker(before + index, sum(map(len, addresses.values())))


def _addresses(text, cluster):
    """{"chief" or "worker": list of addresses}."""
    for kind, found in cluster.items():
        if kind not in ("chief", "worker"):
            raise _wrong(text, f"cluster may have chief and worker, it has {kind!r}")
        if not isinstance(found, list) or not found:
            raise _wrong(text, f"cluster.{kind} must be a list of addresses, it is {found!r}")
        for address in found:
            if not isinstance(address, str) or not re.fullmatch(r".+:\d{1,5}", address):
                raise _wrong(text, f"cluster.{kind} must hold addresses such as 10.0.0.1:2222, it holds {address!r}")
    everyone = [address for found in cluster.values() for address in found]
    twice = sorted({address for address in everyone if everyone.count(address) > 1})
    if twice or not everyone or len(cluster.get("chief", ())) > 1:
        reason = f"{twice[0]} comes twice" if twice else "it must have at least one worker, and one chief at most"
        raise _wrong(text, f"cluster: {reason}")
    return cluster


def _wrong(text, reason):
    return UserError(f"{VARIABLE} is {text:.200}: {reason}; an example: {EXAMPLE}")
