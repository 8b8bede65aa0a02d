"""Inside a cell over a sequence: the gradient that reaches each step, and the activations of the gates.

Both run eagerly.
"""

import tensorflow as tf

from kseq.layers.recurrent.cells import RecurrentCell
from kseq.layers.recurrent.stack import StackedCell


def state_gradients(cell, inputs, loss, initial_state=None):
    """The norm of the loss' gradient for the state at each step (Pascanu et al., 2013, https://arxiv.org/abs/1211.5063,
    equation 5).

        g_t = ‖∂ loss / ∂ h_t‖,  through all the steps after t

    The norm is over the batch and the units. h_t is the first state after step t. The gradient includes what the loss
    reads from h_t directly.

    Args:
        cell: built cell of `kseq.layers`.
        inputs: `[batch, time, d]`.
        loss: function from the outputs of all steps, a list of `[batch, units]`, to a scalar.
        initial_state: list of `[batch, units]`; that of the cell when not given.

    Returns:
        list of `time` floats, one for each step in order; 0 where the loss does not depend on the step.

    Raises:
        ValueError: cell is not a cell of kseq, is a stack, or is not built.
    """
    _check_single(cell)
    inputs = tf.convert_to_tensor(inputs)
    states = cell.get_initial_state(inputs.shape[0]) if initial_state is None else initial_state
    reached, outputs = [], []
    with tf.GradientTape() as tape:
        for x in tf.unstack(inputs, axis=1):
            _, (h, *others) = cell(x, states)
            tape.watch(h)
            reached.append(h)
            outputs.append(h)
            states = [h, *others]
        total = loss(outputs)
    gradients = tape.gradient(total, reached, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [float(tf.norm(gradient)) for gradient in gradients]


def gate_activations(cell, inputs, initial_state=None):
    """The activations of a cell's gates at each step.

    Args:
        cell: built cell of `kseq.layers` with `activations`: `RNNCell`, `LSTMCell`, `GRUCell`.
        inputs: `[batch, time, d]`.
        initial_state: list of `[batch, units]`; that of the cell when not given.

    Returns:
        {letter in the cell's equations: `[batch, time, units]`}.

    Raises:
        ValueError: cell is not a cell of kseq with `activations`, is a stack, or is not built.
    """
    _check_single(cell)
    if not hasattr(cell, "activations"):
        raise ValueError(f"cell must be an RNNCell, an LSTMCell or a GRUCell, got {cell!r}")
    inputs = tf.convert_to_tensor(inputs)
    states = cell.get_initial_state(inputs.shape[0]) if initial_state is None else initial_state
    steps = []
    for x in tf.unstack(inputs, axis=1):
        projected = cell.project(x)
        steps.append(cell.activations(projected, states))
        _, states = cell.step(projected, states)
    return {letter: tf.stack([step[letter] for step in steps], axis=1) for letter in steps[0]}


def _check_single(cell):
    if isinstance(cell, StackedCell):
        raise ValueError(f"cell must be a single cell, got the stack {cell.name}; look at its `cells` one by one")
    if not isinstance(cell, RecurrentCell):
        raise ValueError(f"cell must be a cell of kseq.layers, got {cell!r}")
    if not cell.built:
        raise ValueError(f"cell {cell.name} has no weights yet; call or build it first")
