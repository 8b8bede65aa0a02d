"""What a task's program does: train, evaluate, predict, export. Functions of a config and a folder."""

import json
import sys
import time
from importlib import metadata

import kseq
from kseq.config import differences, load
from kseq.errors import UserError
from kseq.tasks.common import record, transfer

MODES = ("train", "evaluate", "predict", "export")

# What may differ from the training when a finished run is used: where the data are, and how text is generated.
CHANGEABLE = ("data", "sampler")


def train(task, workdir, config, *, resume, show):
    """Trains a new run in `workdir`, or goes on with the one that is there.

    Raises:
        UserError: the folder holds a run and `resume` is not set, or a run of another config.
    """
    started = time.monotonic()
    if (workdir / kseq.training.PROGRESS).exists():
        changed = differences(_saved_config(task, workdir), config)
        if changed:
            shown = "; ".join(changed[:3]) + (f"; and {len(changed) - 3} more" if len(changed) > 3 else "")
            raise UserError(f"{workdir} holds a run of another config ({shown}); take another --workdir or that config")
        if not resume:
            raise UserError(f"{workdir} holds a run; --resume goes on with it, another --workdir starts a new one")
    else:
        kseq.files.write_json(workdir / "run.json", _circumstances(task, config))
        kseq.files.write_json(workdir / "config.json", config.model_dump(mode="json"))
    print(f"training in {workdir}", flush=True)
    _set_up(config)
    run = task(config, workdir)
    run.prepare()
    clock = kseq.data.Clock()
    progress = kseq.training.fit(
        run.model,
        run.batches(clock),
        config.training,
        workdir,
        loss=run.loss(),
        validate=run.validate,
        monitor=task.monitor,
        clock=clock,
        scales=transfer.scales(run.model, config),
        started=started,
        show=show,
    )
    best = progress["best"]
    minutes = progress["seconds"] / 60
    print(f"best {task.monitor} {best['value']:.4g} after epoch {best['epoch']}; {minutes:.1f} minutes", flush=True)


def evaluate(task, workdir, changes, *, record_as=None):
    """Scores the run on the dev split: metrics.json, predictions.jsonl, and with `record_as` a row a metric."""
    run, progress = _finished(task, workdir, changes)
    metrics, rows = run.evaluate()
    metrics["seconds_train"] = round(progress["seconds"], 1)
    kseq.files.write_text(
        workdir / "predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )
    kseq.files.write_json(workdir / "metrics.json", metrics)
    metrics = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
    for name, value in metrics.items():
        print(f"{name:>14} {value:.4g}")
    print(f"{len(rows)} predictions in {workdir / 'predictions.jsonl'}", flush=True)
    if record_as:
        record.append_results(run, record_as, metrics, progress["seconds"])
        record.write_samples(run, record_as, rows)


def predict(task, workdir, changes, inputs):
    """Prints the answer to each input, and draws what there is to be seen of it; without inputs, for some of dev."""
    run, _ = _finished(task, workdir, changes)
    folder = workdir / "predictions"
    for line in run.predict(inputs, folder):
        print(line, flush=True)
    if folder.is_dir():
        print(f"pictures of the attention in {folder}", flush=True)


def export(task, workdir, changes):
    """Writes the SavedModel and asks it in a process of its own."""
    run, _ = _finished(task, workdir, changes)
    folder = workdir / "export"
    print(f"exporting to {folder}", flush=True)
    kseq.export.export(run.answer, run.parts(), task.raw, folder)
    example = run.example()
    answer = kseq.export.check(folder, example, run.ask(example))
    print(f"asked in a process without kseq and keras, it answers: {answer['text']!r} (score {answer['score']:.3f})")


def _finished(task, workdir, changes):
    """The task with the best weights of the run in a folder, and the run's progress."""
    progress = workdir / kseq.training.PROGRESS
    if not progress.exists():
        raise UserError(f"{workdir} holds no trained run; train one with --mode=train --workdir={workdir}")
    for change in changes:
        if change.partition(".")[0] not in CHANGEABLE:
            raise UserError(f"--set {change}: of a finished run only {' and '.join(CHANGEABLE)} can be changed")
    config = load(task.Config, overrides=changes, base=json.loads((workdir / "config.json").read_text()))
    progress = json.loads(progress.read_text())
    _set_up(config)
    run = task(config, workdir)
    run.load(workdir / progress["best"]["file"])
    return run, progress


def _saved_config(task, workdir):
    return load(task.Config, base=json.loads((workdir / "config.json").read_text()))


def _set_up(config):
    """One seed, one result: all generators seeded, all operations deterministic, and the precision of the config.

    Under XLA the operations are its own: Keras turns it off, with no more than a warning, where TensorFlow's are asked
    to be deterministic.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(config.seed)
    if not config.training.xla:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(config.training.precision)


def _installed(name):
    return any(metadata.distributions(name=name))


def _circumstances(task, config):
    """What a run was made with: task, commit, versions, command, machine."""
    packages = ["tensorflow", "keras", "numpy", "tensorflow-datasets"]
    packages += [name for name in ("tensorflow-text", "keras-hub", "sentencepiece") if _installed(name)]
    return {
        "task": task.name,
        "kseq": kseq.__version__,
        "commit": record.commit(),
        "versions": {"python": sys.version.split()[0], **{name: metadata.version(name) for name in packages}},
        "seed": config.seed,
        "command": sys.argv,
        "machine": record.machine(),
    }
