"""What happens inside a cell over a sequence: the gradient that reaches each step, and what the gates do. Eager."""

import tensorflow as tf

from kseq.layers.recurrent.stack import StackedCell


def state_gradients(cell, inputs, loss, initial_state=None):
    """How much of the loss each step still feels (Pascanu et al., 2013, https://arxiv.org/abs/1211.5063, equation 5).

        g_t = ‖∂ loss / ∂ h_t‖,  through all the steps after t

    The norm is over the batch and the units, h_t the first state after step t, as a step of the unrolled graph: what
    the loss reads of h_t directly counts too.

    Args:
        cell: built cell of `kseq.layers`.
        inputs: `[batch, time, d]`.
        loss: function from the outputs of all steps, a list of `[batch, units]`, to a number.
        initial_state: list of `[batch, units]`; zeros when not given.

    Returns:
        list of `time` numbers, the first step's first; 0 where the loss does not depend on the step.

    Raises:
        ValueError: the cell is a stack.
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
    """What the gates of a cell do at each step.

    Args:
        cell: built cell of `kseq.layers` with `activations`: `RNNCell`, `LSTMCell`, `GRUCell`.
        inputs: `[batch, time, d]`.
        initial_state: list of `[batch, units]`; zeros when not given.

    Returns:
        {letter of the cell's equations: `[batch, time, units]`}.

    Raises:
        ValueError: the cell is a stack.
    """
    _check_single(cell)
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
        raise ValueError(f"cell must be of one layer, got the stack {cell.name}; look at its `cells` one by one")
