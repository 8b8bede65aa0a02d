"""The papers' equations in NumPy, one gate and one sentence at a time: what the layers are tested against.

Nothing here comes from kseq. A weight of several gates is a dictionary by the gates' letters.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cut(stacked, letters):
    """The column blocks of a stacked weight, one a gate: `[..., n · units]` → {letter: `[..., units]`}."""
    stacked = np.asarray(stacked, "float64")
    units = stacked.shape[-1] // len(letters)
    return {letter: stacked[..., k * units : (k + 1) * units] for k, letter in enumerate(letters)}


def rnn_step(x, states, W, U, b):
    """Elman (1990): the new states [h]."""
    [h] = states
    return [np.tanh(x @ W + h @ U + b)]


def lstm_step(x, states, W, U, b):
    """Gers et al. (2000), gates f, i, c, o: the new states [h, c]."""
    h, c = states
    forget = sigmoid(x @ W["f"] + h @ U["f"] + b["f"])
    write = sigmoid(x @ W["i"] + h @ U["i"] + b["i"])
    candidate = np.tanh(x @ W["c"] + h @ U["c"] + b["c"])
    show = sigmoid(x @ W["o"] + h @ U["o"] + b["o"])
    c = forget * c + write * candidate
    return [show * np.tanh(c), c]


def gru_step(x, states, W, U, b):
    """Chung et al. (2014), gates z, r, n, equations 6 to 9: the new states [h]."""
    [h] = states
    update = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
    reset = sigmoid(x @ W["r"] + h @ U["r"] + b["r"])
    new = np.tanh(x @ W["n"] + (reset * h) @ U["n"] + b["n"])
    return [(1 - update) * h + update * new]


def gru_reset_after_step(x, states, W, U, b, b_u):
    """Cho et al. (2014, version 1), gates z, r, n, the reset gate after the product: the new states [h]."""
    [h] = states
    update = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
    reset = sigmoid(x @ W["r"] + h @ U["r"] + b["r"])
    new = np.tanh(x @ W["n"] + b["n"] + reset * (h @ U["n"] + b_u))
    return [(1 - update) * h + update * new]


CUDNN_GATES = {"rnn_tanh": "h", "lstm": "ifco", "gru": "rih"}  # by their linLayerID; i of a GRU is its update gate


def cudnn_rnn(mode, x, h, c, params, lengths):
    """The equations of NVIDIA's `cudnnRNNMode_t` on the flat weights of `cudnnGetRNNWeightParams`, a row at a time.

    x `[batch, time, d]`, h and c `[batch, units]`. Returns the outputs, zeros from the lengths on, and the last h, c.
    """
    gates, units, d = CUDNN_GATES[mode], h.shape[-1], x.shape[-1]
    sizes = [units * d] * len(gates) + [units * units] * len(gates) + [units] * (2 * len(gates))
    assert params.shape == (sum(sizes),)
    parts = np.split(np.asarray(params, "float64"), np.cumsum(sizes)[:-1])
    W, R, b_W, b_R = (dict(zip(gates, parts[k * len(gates) :], strict=False)) for k in range(4))
    y, h, c = np.zeros((*x.shape[:2], units)), np.array(h, "float64"), np.array(c, "float64")
    for row, length in enumerate(lengths):
        assert 1 <= length <= x.shape[1]
        for t in range(length):
            of_x = {g: W[g].reshape(units, d) @ x[row, t] + b_W[g] for g in gates}
            of_h = {g: R[g].reshape(units, units) @ h[row] + b_R[g] for g in gates}
            if mode == "rnn_tanh":
                h[row] = np.tanh(of_x["h"] + of_h["h"])
            elif mode == "lstm":
                i, f, o = (sigmoid(of_x[g] + of_h[g]) for g in "ifo")
                c[row] = f * c[row] + i * np.tanh(of_x["c"] + of_h["c"])
                h[row] = o * np.tanh(c[row])
            else:
                i, r = (sigmoid(of_x[g] + of_h[g]) for g in "ir")
                h[row] = (1 - i) * np.tanh(of_x["h"] + r * of_h["h"]) + i * h[row]
            y[row, t] = h[row]
    return y, h, c


def peephole_step(x, states, W, U, b, p):
    """Graves (2013), equations 7 to 11, gates f, i, c, o; p of f, i, o: the new states [h, c]."""
    h, c = states
    forget = sigmoid(x @ W["f"] + h @ U["f"] + p["f"] * c + b["f"])
    write = sigmoid(x @ W["i"] + h @ U["i"] + p["i"] * c + b["i"])
    c = forget * c + write * np.tanh(x @ W["c"] + h @ U["c"] + b["c"])
    show = sigmoid(x @ W["o"] + h @ U["o"] + p["o"] * c + b["o"])
    return [show * np.tanh(c), c]


def layer_norm(a, gain=1.0, bias=0.0):
    """Ba et al. (2016), equation 4, a row at a time, with 1e-5 below the root."""
    rows = [gain * (row - row.mean()) / np.sqrt(row.var() + 1e-5) + bias for row in np.asarray(a, "float64")]
    return np.stack(rows)


def layer_norm_lstm_step(x, states, W, U, b, alpha, beta):
    """Ba et al. (2016), equations 20 to 22; W, U, b whole, gates i, f, c, o; alpha three gains: the new states."""
    h, c = states
    gates = layer_norm(x @ W, alpha[0]) + layer_norm(h @ U, alpha[1]) + b
    gate = cut(gates, "ifco")
    c = sigmoid(gate["f"]) * c + sigmoid(gate["i"]) * np.tanh(gate["c"])
    return [sigmoid(gate["o"]) * np.tanh(layer_norm(c, alpha[2], beta)), c]


def layer_norm_gru_step(x, states, W, U, b, alpha_W, alpha_U):
    """Ba et al. (2016), equations 23 to 25, W, U, b, gains by gate z, r, n; z weighs the new state."""
    [h] = states

    def joined(weight):
        return np.concatenate([weight["z"], weight["r"]], axis=-1)

    both = layer_norm(x @ joined(W), joined(alpha_W)) + layer_norm(h @ joined(U), joined(alpha_U)) + joined(b)
    update, reset = sigmoid(both[:, : h.shape[1]]), sigmoid(both[:, h.shape[1] :])
    new = np.tanh(layer_norm(x @ W["n"], alpha_W["n"]) + b["n"] + reset * layer_norm(h @ U["n"], alpha_U["n"]))
    return [update * new + (1 - update) * h]


def stacked_step(x, states, steps, numbers, residual=False):
    """Wu et al. (2016), equations 5 and 6, residual from the second layer on: x of the top layer, all new states.

    `steps` are the layers' functions (x, states) → states, `numbers` says how many states each has.
    """
    after = []
    for k, (step, number) in enumerate(zip(steps, numbers, strict=True)):
        m, *others = step(x, states[len(after) : len(after) + number])
        x = m + x if residual and k > 0 else m
        after += [m, *others]
    return x, after


def stacked_output(states, numbers, residual=False):
    """The x of the top layer that came with the states: the residual one is the sum of the h of all layers."""
    first = [sum(numbers[:k]) for k in range(len(numbers))]
    return sum(states[place] for place in first) if residual else states[first[-1]]


def additive_score(query, row, W, U, v):
    """Bahdanau et al. (2015), appendix A.1.2: a number from one query and one row of memory."""
    return v @ np.tanh(query @ W + row @ U)


def general_score(query, row, W):
    """Luong et al. (2015), equation 8, "general"."""
    return query @ (row @ W)


def scaled_general_score(query, row, W, g):
    """Luong et al. (2015), equation 8, "general", times a learned number."""
    return g * general_score(query, row, W)


def dot_score(query, row):
    """Luong et al. (2015), equation 8, "dot"."""
    return query @ row


def concat_score(query, row, W, v):
    """Luong et al. (2015), equation 8, "concat"."""
    return v @ np.tanh(np.concatenate([query, row]) @ W)


def normalized_score(query, row, W, U, v, b, g):
    """Salimans and Kingma (2016), equation 2, of the additive score's v, with a bias."""
    return g * v / np.linalg.norm(v) @ np.tanh(query @ W + row @ U + b)


def scaled_score(query, row):
    """Vaswani et al. (2017), equation 1: the score of one row."""
    return query @ row / np.sqrt(len(row))


def local_alignment(query, memory, real, W, W_p, v_p, window):
    """Luong et al. (2015), equations 7 to 10, of one sentence: the weights of its rows; `real` are their numbers."""
    weights = np.zeros(len(memory))
    p = len(real) * sigmoid(np.tanh(query @ W_p) @ v_p)
    near = {s: position for position, s in enumerate(real) if abs(position - p) <= window}
    scores = {s: np.exp(general_score(query, memory[s], W)) for s in near}
    for s, position in near.items():
        weights[s] = scores[s] / sum(scores.values()) * np.exp(-((position - p) ** 2) / (2 * (window / 2) ** 2))
    return weights


def location_features(attention_state, filters):
    """Chorowski et al. (2015), equation 8: `[source]` and `[width, filters]` → `[source, filters]`, zeros outside."""
    width, number = filters.shape
    features = np.zeros((len(attention_state), number))
    for s in range(len(attention_state)):
        for offset in range(width):
            row = s + offset - (width - 1) // 2
            if 0 <= row < len(attention_state):
                features[s] += attention_state[row] * filters[offset]
    return features


def location_score(query, row, feature, W, V, U, b, w):
    """Chorowski et al. (2015), equation 9."""
    return w @ np.tanh(query @ W + row @ V + feature @ U + b)


def coverage_score(query, row, covered, W_h, W_s, w_c, b, v):
    """See et al. (2017), equation 11."""
    return v @ np.tanh(row @ W_h + query @ W_s + covered * w_c + b)


def monotonic_alignment(attention_state, p):
    """Raffel et al. (2017), equation 9: from the last alignment and the probabilities of stopping, sum by sum."""
    weights = np.zeros(len(attention_state))
    for s in range(len(attention_state)):
        for k in range(s + 1):
            weights[s] += p[s] * attention_state[k] * np.prod([1 - p[row] for row in range(k, s)])
    return weights


def hard_monotonic_alignment(attention_state, scores, real):
    """Raffel et al. (2017), algorithm 1: walk on from the last row, stop at the first score above 0."""
    weights = np.zeros(len(attention_state))
    if np.any(attention_state):
        for s in range(int(np.argmax(attention_state)), len(attention_state)):
            if s in real and scores[s] > 0:
                weights[s] = 1
                break
    return weights


def coverage_loss(alignments, real):
    """See et al. (2017), equation 12, as a mean over the real steps."""
    terms = []
    for b, t in np.argwhere(real):
        covered = alignments[b, :t].sum(axis=0)
        terms.append(sum(min(a, c) for a, c in zip(alignments[b, t], covered, strict=True)))
    return np.mean(terms)


def reinforce_gradient(alpha, drawn, log_p, in_view, baseline, words):
    """Xu et al. (2015), section 4.1, as a gradient to descend, for the scores below alpha: `[batch, time, source]`.

    drawn is the row that a step read, −1 for none; log_p that of its target, which counts where it is in view.
    A draw is held to account for the words from its own step on.
    """
    gradient = np.zeros(alpha.shape)
    time = in_view.shape[1]
    for b, t, s in np.ndindex(*alpha.shape):
        reward = sum(log_p[b, u] - baseline for u in range(t, time) if in_view[b, u])
        gradient[b, t, s] = -reward * ((s == drawn[b, t]) - alpha[b, t, s]) / words
    return gradient


def pointer_generator(logits, output, context, word, alignment, source_ids, copies, w_h, w_s, w_x, b):
    """See et al. (2017), equations 8 and 9, one step of one sentence: P `[vocabulary + copies]`; id 0 is padding.

    What the alignment gives to no word goes to the vocabulary.
    """
    p_gen = sigmoid(context @ w_h + output @ w_s + word @ w_x + b)
    p_vocab = np.exp(logits - np.max(logits))
    p_vocab /= p_vocab.sum()
    rest = 1 - sum(a for a, x in zip(alignment, source_ids, strict=True) if x != 0)
    p = np.zeros(len(logits) + copies)
    for w in range(len(p)):
        p[w] = (1 - p_gen) * sum(a for a, x in zip(alignment, source_ids, strict=True) if x == w and x != 0)
        if w < len(logits):
            p[w] += (p_gen + (1 - p_gen) * rest) * p_vocab[w]
    return p


def softmax(scores):
    """{row: score} → {row: weight}."""
    total = sum(np.exp(e) for e in scores.values())
    return {s: np.exp(e) / total for s, e in scores.items()}


class Mechanism(NamedTuple):
    """What an attention mechanism computes, for one sentence and one step.

    weigh: (layer, query `[d_query]`, memory `[source, d]`, state `[source]`, numbers of the real rows) → {row: weight}.
    first: (number of rows, numbers of the real rows) → the state before the first step.
    next: (state, weights `[source]`) → the state after a step.
    """

    weigh: Callable
    first: Callable = lambda source, real: np.zeros(source)
    next: Callable = lambda state, weights: weights


def weights_of(layer, **names):
    """{letter: array} of a layer's weights."""
    return {letter: np.asarray(getattr(layer, name)) for letter, name in names.items()}


def softmax_of(score, **names):
    """The mechanism whose alignment is the softmax of `score(query, row, **weights)`."""

    def weigh(layer, query, memory, state, real):
        return softmax({s: score(query, memory[s], **weights_of(layer, **names)) for s in real})

    return Mechanism(weigh)


def weigh_dot(layer, query, memory, state, real):
    score = scaled_score if layer.scaled else dot_score
    return softmax({s: score(query, memory[s]) for s in real})


def weigh_local(layer, query, memory, state, real):
    letters = weights_of(layer, W="memory_kernel", W_p="position_kernel", v_p="position_scale")
    letters["v_p"] = letters["v_p"][:, 0]
    return dict(enumerate(local_alignment(query, memory, real, **letters, window=layer.window)))


def weigh_location(layer, query, memory, state, real):
    features = location_features(state, np.asarray(layer.location_filters)[:, 0])
    if layer.window:  # around the first real row at which half of the state is reached
        total = np.cumsum(state)
        middle = next(i for i, s in enumerate(real) if total[s] >= state.sum() / 2)
        real = [s for i, s in enumerate(real) if abs(i - middle) <= layer.window]
    letters = weights_of(layer, W="query_kernel", V="memory_kernel", U="location_kernel", b="bias", w="scale")
    scores = {s: location_score(query, memory[s], features[s], **letters) for s in real}
    if layer.smoothing:
        total = sum(sigmoid(e) for e in scores.values())
        return {s: sigmoid(e) / total for s, e in scores.items()}
    return softmax({s: layer.sharpening * e for s, e in scores.items()})


def weigh_coverage(layer, query, memory, state, real):
    letters = weights_of(layer, W_h="memory_kernel", W_s="query_kernel", b="bias", v="scale", w_c="coverage_kernel")
    letters["w_c"] = letters["w_c"][0]
    return softmax({s: coverage_score(query, memory[s], state[s], **letters) for s in real})


def weigh_monotonic(score, names, layer, query, memory, state, real):
    scores = np.array([score(query, row, **weights_of(layer, **names)) for row in memory]) + float(layer.offset)
    if layer.hard:
        return dict(enumerate(hard_monotonic_alignment(state, scores, real)))
    p = [sigmoid(scores[s]) if s in real else 0.0 for s in range(len(memory))]
    return dict(enumerate(monotonic_alignment(state, p)))


def monotonic(score, **names):
    """A monotonic mechanism over an energy, which starts with all on the first real row."""

    def first(source, real):
        return np.eye(1, source, real[0] if real else source)[0]

    return Mechanism(functools.partial(weigh_monotonic, score, names), first)


def weigh_hard(layer, query, memory, state, real):
    """Xu et al. (2015), section 4.1, when not training: the likeliest row."""
    letters = weights_of(layer, W="query_kernel", U="memory_kernel", v="scale")
    return {max(real, key=lambda s: additive_score(query, memory[s], **letters)): 1.0}


ADDITIVE = {"W": "query_kernel", "U": "memory_kernel", "v": "scale"}
NORMALIZED = ADDITIVE | {"b": "bias", "g": "gain"}

MECHANISMS = {  # by the names of `kseq.layers.ATTENTIONS`
    "bahdanau": softmax_of(additive_score, **ADDITIVE),
    "normalized": softmax_of(normalized_score, **NORMALIZED),
    "luong": softmax_of(general_score, W="memory_kernel"),
    "scaled_luong": softmax_of(scaled_general_score, W="memory_kernel", g="gain"),
    "concat": softmax_of(concat_score, W="kernel", v="scale"),
    "dot": Mechanism(weigh_dot),
    "local": Mechanism(weigh_local),
    "location": Mechanism(weigh_location),
    "coverage": Mechanism(weigh_coverage, next=lambda state, weights: state + weights),
    "monotonic": monotonic(normalized_score, **NORMALIZED),
    "luong_monotonic": monotonic(scaled_general_score, W="memory_kernel", g="gain"),
    "hard": Mechanism(weigh_hard),
}


def attend_steps(mechanism, layer, queries, memory, mask=None):
    """Contexts `[steps, batch, d]` and alignments `[steps, batch, source]` of a mechanism, zeros without real rows.

    The queries are `[steps, batch, d_query]`, the mask `[batch, source]` or None.
    """
    batch, source = memory.shape[:2]
    alignments = np.zeros((len(queries), batch, source))
    for b in range(batch):
        real = [s for s in range(source) if mask is None or mask[b, s]]
        state = mechanism.first(source, real)
        for t, query in enumerate(queries[:, b]):
            for s, weight in mechanism.weigh(layer, query, memory[b], state, real).items() if real else ():
                alignments[t, b, s] = weight
            state = mechanism.next(state, alignments[t, b])
    return np.einsum("tbs,bsd->tbd", alignments, memory), alignments


def attend(score, query, memory, mask=None):
    """Context `[batch, d]` and alignment `[batch, source]`: the softmax over the real rows alone, zeros without any."""
    context, alignment = np.zeros(memory[:, 0].shape), np.zeros(memory.shape[:2])
    for b in range(len(memory)):
        real = [s for s in range(memory.shape[1]) if mask is None or mask[b, s]]
        weights = {s: np.exp(score(query[b], memory[b, s])) for s in real}
        for s in real:
            alignment[b, s] = weights[s] / sum(weights.values())
            context[b] += alignment[b, s] * memory[b, s]
    return context, alignment


def first(states):
    """The h of a cell that is one layer."""
    return states[0]


def bahdanau_decoder_step(y, states, cell, attention, gate=None, deep_output=None, h=first):
    """Bahdanau et al. (2015), appendix A.2.2; Xu et al. (2015), section 4.2.1 and equation 7 for the options.

    `cell(x, states)` gives the new states, `h(states)` the h among them, `attention(query)` the context and the
    alignment; gate is (w_β, b_β), deep_output is (L_y, L_h, L_z, b_L). Returns output, alignment, the new states.
    """
    z, alignment = attention(h(states))
    if gate is not None:
        w_beta, b_beta = gate
        z = sigmoid(h(states) @ w_beta + b_beta) * z
    states = cell(np.concatenate([y, z], axis=-1), states)
    output = h(states)
    if deep_output is not None:
        L_y, L_h, L_z, b_L = deep_output
        output = np.tanh(y @ L_y + h(states) @ L_h + z @ L_z + b_L)
    return output, alignment, states


def luong_decoder_step(y, states, attentional, cell, attention, W, input_feeding, h=first):
    """Luong et al. (2015), equation 5 and section 3.3; W stands before [z; h].

    Returns output, alignment, the new states; the output is the next step's `attentional`.
    """
    states = cell(np.concatenate([y, attentional], axis=-1) if input_feeding else y, states)
    z, alignment = attention(h(states))
    return np.tanh(np.concatenate([z, h(states)], axis=-1) @ W), alignment, states


def doubly_stochastic_penalty(alignments, real):
    """Xu et al. (2015), equation 14, as a mean over sentences and regions."""
    batch, time, source = alignments.shape
    terms = []
    for b in range(batch):
        for i in range(source):
            terms.append((1 - sum(alignments[b, t, i] for t in range(time) if real[b, t])) ** 2)
    return np.mean(terms)


def token_crossentropy(y, logits, weights, label_smoothing=0.0):
    """Szegedy et al. (2016), section 7: the mean over the tokens with weight, in nats."""
    vocabulary = logits.shape[-1]
    total = 0.0
    for b, t in np.ndindex(*y.shape):
        p = np.exp(logits[b, t].astype("float64"))
        p /= p.sum()
        target = np.full(vocabulary, label_smoothing / vocabulary)
        target[y[b, t]] += 1 - label_smoothing
        total -= weights[b, t] * (target @ np.log(p))
    return total / weights.sum()


def pooling_attention(memory, mask, W, b, u):
    """Yang et al. (2016), equations 5 to 7, for one sequence: the row and the alignment."""
    if not np.any(mask):
        return np.zeros(memory.shape[1]), np.zeros(len(memory))
    scores = [np.tanh(h @ W + b) @ u for h in memory]
    weights = np.array([np.exp(e) if real else 0.0 for e, real in zip(scores, mask, strict=True)])
    alignment = weights / weights.sum()
    return sum(a * h for a, h in zip(alignment, memory, strict=True)), alignment


def word_by_word(inputs, memory, mask, W_y, W_h, W_r, w, W_t):
    """Rocktäschel et al. (2016), equations 11 to 13, for one sequence: the last r and all alignments."""
    r, alignments = np.zeros(memory.shape[1]), []
    for h in inputs:
        scores = [np.tanh(y @ W_y + h @ W_h + r @ W_r) @ w for y in memory]
        weights = np.array([np.exp(e) if real else 0.0 for e, real in zip(scores, mask, strict=True)])
        alignment = weights / max(weights.sum(), 1e-30)
        r = sum(a * y for a, y in zip(alignment, memory, strict=True)) + np.tanh(r @ W_t)
        alignments.append(alignment)
    return r, np.array(alignments)


def mutual(h, Y, W, b):
    """Chen et al. (2017), equations 11 to 15, 18 and 19, for two sequences without padding: v and α."""

    def looks(e):
        return np.exp(e) / np.exp(e).sum(axis=1, keepdims=True)

    def compared(x, other):
        rows = [np.maximum(np.concatenate([a, o, a - o, a * o]) @ W + b, 0) for a, o in zip(x, other, strict=True)]
        return [np.mean(rows, axis=0), np.max(rows, axis=0)]

    e = np.array([[row @ y for y in Y] for row in h])
    return np.concatenate([*compared(h, looks(e) @ Y), *compared(Y, looks(e.T) @ h)]), looks(e)
