"""Keras' own test of layers, `keras.src.testing.TestCase.run_layer_test`, over every public layer.

It checks that a layer is built, saved and loaded from its config, called with symbols and with values of the shapes and
types that it promises, trained under XLA, and run in mixed precision with weights in float32.
"""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import keras
import pytest
from keras.src.testing import TestCase

from contracts import normal, public_layers
from kseq.layers import (
    ATTENTIONS,
    CELLS,
    DECODERS,
    BahdanauAttention,
    Bidirectional,
    CopyBridge,
    DenseBridge,
    Dropout,
    GRUCell,
    KerasCell,
    LogMel,
    LSTMCell,
    MonotonicAttention,
    MutualAttention,
    PointerGenerator,
    PoolingAttention,
    Recurrent,
    SpecAugment,
    Stack,
    StackedCell,
    WarpFrames,
    WordByWordAttention,
    ZeroBridge,
    make_attention,
)

BATCH, TIME, DEPTH, UNITS = 3, 4, 5, 6


class Row(NamedTuple):
    """What a layer is tested with. `exempt` names checks of the suite that are off, each with the reason."""

    layer: type
    init: Callable[
        [], dict
    ]  # the constructor's arguments, made anew for each run: Keras shares the objects among its checks
    inputs: object  # shapes: of one input, of a list of them, or {"NAME_shape": of call's argument NAME}; or arrays
    call: Mapping = MappingProxyType({})  # further arguments of `call`
    outputs: object = None  # the shape of the outputs, or a tuple of shapes
    masks: bool = False  # whether the layer supports masking
    seeds: int = 0  # how many seed generators it has
    exempt: Mapping = MappingProxyType({})  # {argument of run_layer_test: reason}


SEQUENCE = (BATCH, TIME, DEPTH)
ONE_STATE, TWO_STATES = [(BATCH, UNITS)], [(BATCH, UNITS)] * 2
NEEDS_STATES = {
    "run_training_check": "the suite trains a layer on its first argument alone, and a cell needs its states",
    "run_mixed_precision_check": "the suite asks for the types without the states; tests/test_contracts.py checks them",
}


def cell_row(cell, states, **init):
    """A cell by itself: one step."""
    return Row(
        cell,
        lambda: {"units": UNITS} | init,
        (BATCH, DEPTH),
        {"states": [normal(*state) for state in states]},
        ((BATCH, UNITS), states),
        exempt=NEEDS_STATES,
    )


SOURCE = 7
TWO_INPUTS = {"run_training_check": "the suite trains a layer on its first argument alone, and this one has several"}
TWO_OUTPUTS = {"run_training_check": "the suite's loss reads one output, and its generator takes no list"}
MEMORY = (BATCH, SOURCE, DEPTH)


def attention_row(name):
    """A mechanism of `ATTENTIONS`, with the options of its defaults."""
    layer = make_attention(name, UNITS)
    sizes = {"units": UNITS} if hasattr(layer, "units") else {}
    shapes = {"query_shape": (BATCH, DEPTH), "memory_shape": MEMORY}
    seeds = 1 if hasattr(layer, "seed_generator") else 0
    outputs = (BATCH, DEPTH), (BATCH, SOURCE)
    return Row(ATTENTIONS[name], lambda: sizes, shapes, outputs=outputs, masks=True, seeds=seeds, exempt=TWO_INPUTS)


def decoder_row(name, seeds=0, **init):
    """A decoder over the memory of another length than its words."""
    parts = lambda: {"cell": LSTMCell(UNITS)} | {key: x() if callable(x) else x for key, x in init.items()}  # noqa: E731
    shapes = {"inputs_shape": SEQUENCE, "memory_shape": MEMORY}
    outputs = (BATCH, TIME, UNITS), (BATCH, TIME, SOURCE)
    return Row(DECODERS[name], parts, shapes, outputs=outputs, masks=True, seeds=seeds, exempt=TWO_INPUTS)


TABLE = {
    **{
        name: cell_row(cell, TWO_STATES if "lstm" in name or name == "peephole" else ONE_STATE)
        for name, cell in CELLS.items()
    },
    "gru reset_after without bias": cell_row(GRUCell, ONE_STATE, reset_after=True, use_bias=False),
    "lstm with all options": cell_row(
        LSTMCell,
        TWO_STATES,
        kernel_initializer="he_normal",
        bias_initializer="ones",
        forget_bias=None,
        kernel_regularizer="l2",
        recurrent_constraint="non_neg",
    ),
    "KerasCell": cell_row(KerasCell, TWO_STATES)._replace(init=lambda: {"cell": keras.layers.LSTMCell(UNITS)}, seeds=1),
    "StackedCell": cell_row(StackedCell, [*TWO_STATES, *ONE_STATE])._replace(
        init=lambda: {"cells": [LSTMCell(UNITS), GRUCell(UNITS)], "residual": True}
    ),
    "Recurrent": Row(
        Recurrent, lambda: {"cell": LSTMCell(UNITS)}, SEQUENCE, outputs=(*SEQUENCE[:2], UNITS), masks=True, seeds=1
    ),
    "Recurrent last": Row(
        Recurrent,
        lambda: {
            "cell": GRUCell(UNITS),
            "return_sequences": False,
            "dropout": 0.1,
            "recurrent_dropout": 0.1,
            "zoneout": 0.1,
        },
        SEQUENCE,
        outputs=(BATCH, UNITS),
        masks=True,
        seeds=1,
    ),
    "Recurrent states": Row(
        Recurrent,
        lambda: {"cell": keras.layers.LSTMCell(UNITS), "return_state": True, "go_backwards": True},
        SEQUENCE,
        outputs=((*SEQUENCE[:2], UNITS), *TWO_STATES),
        masks=True,
        seeds=2,
        exempt={"run_training_check": "the suite's loss reads one output"},
    ),
    "Bidirectional": Row(
        Bidirectional,
        lambda: {"layer": Recurrent(LSTMCell(UNITS))},
        SEQUENCE,
        outputs=(*SEQUENCE[:2], 2 * UNITS),
        masks=True,
        seeds=2,
    ),
    "Bidirectional both last": Row(
        Bidirectional,
        lambda: {"layer": Recurrent(GRUCell(UNITS), return_sequences=False, return_state=True), "merge_mode": None},
        SEQUENCE,
        outputs=((BATCH, UNITS),) * 4,
        masks=True,
        seeds=2,
        exempt={"run_training_check": "the suite's loss reads one output"},
    ),
    "Stack": Row(
        Stack,
        lambda: {
            "layers": [Bidirectional(Recurrent(GRUCell(2))), Recurrent(LSTMCell(4), go_backwards=True)],
            "residual": True,
        },
        SEQUENCE,
        outputs=(*SEQUENCE[:2], 4),
        masks=True,
        seeds=3,
    ),
    "Dropout": Row(Dropout, lambda: {"rate": 0.5}, SEQUENCE, outputs=SEQUENCE, masks=True, seeds=1),
    **{name: attention_row(name) for name in ATTENTIONS},
    "PoolingAttention": Row(
        PoolingAttention,
        lambda: {"units": UNITS, "return_alignment": False},
        MEMORY,
        outputs=(BATCH, DEPTH),
        masks=True,
    ),
    "PoolingAttention with its alignment": Row(
        PoolingAttention,
        lambda: {"units": UNITS, "use_bias": False},
        MEMORY,
        outputs=((BATCH, DEPTH), (BATCH, SOURCE)),
        masks=True,
        exempt=TWO_OUTPUTS,
    ),
    "WordByWordAttention": Row(
        WordByWordAttention,
        lambda: {"units": UNITS},
        {"inputs_shape": (BATCH, TIME, 2), "memory_shape": MEMORY},
        outputs=((BATCH, DEPTH), (BATCH, TIME, SOURCE)),
        masks=True,
        exempt=TWO_INPUTS,
    ),
    "MutualAttention": Row(
        MutualAttention,
        lambda: {"units": UNITS},
        {"inputs_shape": SEQUENCE, "memory_shape": MEMORY},
        outputs=((BATCH, 4 * UNITS), (BATCH, TIME, SOURCE)),
        masks=True,
        exempt=TWO_INPUTS,
    ),
    "BahdanauDecoder": decoder_row("bahdanau", attention=lambda: BahdanauAttention(2), gate=True),
    "BahdanauDecoder stateful": decoder_row(
        "bahdanau", attention="location", deep_output=True, readout_dropout=0.5, seeds=1
    ),
    "LuongDecoder": decoder_row("luong", attention="scaled_luong", kernel_regularizer="l2"),
    "LuongDecoder monotonic": decoder_row(
        "luong", attention=lambda: MonotonicAttention(2), input_feeding=False, seeds=1
    ),
    "FixedContextDecoder": decoder_row("fixed"),
    "DenseBridge": Row(
        DenseBridge, lambda: {"state_size": UNITS}, (BATCH, DEPTH), outputs=[(BATCH, UNITS)], exempt=TWO_OUTPUTS
    ),
    "DenseBridge of two states": Row(
        DenseBridge,
        lambda: {"state_size": [2, 3], "kernel_constraint": "non_neg"},
        [(BATCH, 4), (BATCH, 5)],
        outputs=[(BATCH, 2), (BATCH, 3)],
        exempt=TWO_OUTPUTS,
    ),
    "ZeroBridge": Row(
        ZeroBridge, lambda: {"state_size": [UNITS]}, (BATCH, DEPTH), outputs=[(BATCH, UNITS)], exempt=TWO_OUTPUTS
    ),
    "CopyBridge": Row(
        CopyBridge,
        lambda: {"state_size": [UNITS] * 4, "reads": 1, "makes": 2},
        [(BATCH, UNITS)] * 2,
        outputs=[(BATCH, UNITS)] * 4,
        exempt=TWO_OUTPUTS,
    ),
    "LogMel": Row(
        LogMel,
        lambda: {"rate": 1000, "mels": 3, "window": 0.03, "hop": 0.02, "low": 50.0, "high": 450.0, "deltas": 1},
        (BATCH, 50),
        outputs=(BATCH, 3, 6),
        exempt={"run_mixed_precision_check": "energies are computed in float32 under every dtype policy"},
    ),
    "SpecAugment": Row(
        SpecAugment,
        lambda: {"frequency_masks": 1, "frequency_width": 2, "time_masks": 1, "seed": 1},
        SEQUENCE,
        outputs=SEQUENCE,
        seeds=1,
    ),
    "WarpFrames": Row(
        WarpFrames, lambda: {"frequency": 0.2, "time": 0.1, "seed": 1}, SEQUENCE, outputs=SEQUENCE, seeds=1
    ),
    "PointerGenerator": Row(
        PointerGenerator,
        lambda: {"max_oov_words": 2},
        {
            "logits_shape": (BATCH, TIME, 9),
            "output_shape": (BATCH, TIME, UNITS),
            "context_shape": SEQUENCE,
            "inputs_shape": (BATCH, TIME, 2),
            "alignments_shape": (BATCH, TIME, SOURCE),
            "source_ids_shape": (BATCH, SOURCE),
        },
        outputs=(BATCH, TIME, 11),
        masks=True,
        exempt=TWO_INPUTS,
    ),
}


# The suite trains on an endless generator, which Keras warns that it cannot shuffle, and also what has no weights.
@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights:UserWarning")
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_a_layer_passes_keras_own_test(name):
    row = TABLE[name]
    are_shapes = all(isinstance(x, int) for x in keras.tree.flatten(row.inputs))
    inputs = {"input_shape" if are_shapes else "input_data": row.inputs}
    TestCase().run_layer_test(
        row.layer,
        row.init(),
        **inputs,
        call_kwargs=dict(row.call),
        expected_output_shape=row.outputs,
        expected_num_seed_generators=row.seeds,
        supports_masking=row.masks,
        **dict.fromkeys(row.exempt, False),
    )


def test_exemptions_name_checks_of_the_suite_and_give_a_reason():
    checks = inspect.signature(TestCase.run_layer_test).parameters
    for row in TABLE.values():
        assert set(row.exempt) <= {name for name in checks if name.startswith("run_")}
        assert all(len(reason) > 20 for reason in row.exempt.values())


def test_the_table_has_every_public_layer():
    """Those of `kseq.layers`: the models have dictionaries for inputs, and are in the contract table."""
    layers = {layer for layer in public_layers() if layer.__module__.startswith("kseq.layers.")}
    assert len(layers) > 30
    assert {row.layer for row in TABLE.values()} == layers
