"""The model of the tasks that write one text of another, from its config."""

import numpy as np

import kseq
from kseq.errors import UserError

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed.


def make_model(config, source_size, target_size):
    """The `Seq2Seq` of a `ModelConfig`, with new weights.

    Args:
        config: `ModelConfig`.
        source_size: words that are read.
        target_size: words that are written.

    Raises:
        UserError: the parts do not fit each other.
    """
    cell = config.encoder.cell or config.cell
    try:
        encoder = make_encoder(config.encoder, cell, source_size, config.embedding_size)
        decoder = make_decoder(config)
        bridge = make_bridge(config, decoder.cell.state_size)
        # One after the other: what does not fit is said by the part itself, and not by a model around it.
        one = np.zeros((1, 1), "int32")
        encoded = encoder(one)
        embedded = np.zeros((1, 1, config.embedding_size), "float32")
        decoder(embedded, encoded.memory, encoded.memory_mask, bridge(encoded.state))
    except ValueError as error:
        raise UserError(f"model: {error}") from None
    options = {"embedding_size": config.embedding_size, "dropout": config.dropout, "max_oov_words": config.copies}
    model = kseq.models.Seq2Seq(encoder, bridge, decoder, target_size, **options)
    model({"source": one, "tokens": one})
    return model


def make_encoder(config, cell, size, embedding_size):
    """The `TextEncoder` of an `EncoderConfig`, for texts of so many words, with new weights."""
    layers = []
    for k in range(config.layers):
        layer = kseq.layers.Recurrent(
            kseq.layers.CELLS[cell](config.units), return_state=True, dropout=config.dropout if k else 0.0
        )
        layers.append(kseq.layers.Bidirectional(layer) if config.bidirectional else layer)
    layer = kseq.layers.Stack(layers, residual=config.residual) if config.layers > 1 else layers[0]
    encoder = kseq.models.TextEncoder(size, layer, embedding_size=embedding_size, dropout=config.dropout)
    encoder.trainable = config.trainable
    return encoder


def make_decoder(config):
    """The decoder of a `ModelConfig`, with new weights."""
    cells = [kseq.layers.CELLS[config.cell](config.units) for _ in range(config.layers)]
    cell = kseq.layers.StackedCell(cells, residual=config.residual) if config.layers > 1 else cells[0]
    if config.decoder == "fixed":
        return kseq.layers.FixedContextDecoder(cell)
    sized = [] if config.attention in ("luong", "scaled_luong", "dot") else [config.attention_units]
    weighted = {"weight": config.coverage_weight} if config.attention == "coverage" else {}
    attention = kseq.layers.ATTENTIONS[config.attention](*sized, **weighted)
    if config.decoder == "luong":
        return kseq.layers.LuongDecoder(cell, attention, input_feeding=config.input_feeding)
    return kseq.layers.BahdanauDecoder(cell, attention, deep_output=config.deep_output)


def make_bridge(config, state_size):
    """The bridge of a `ModelConfig` to states of these sizes."""
    if config.bridge == "dense":
        return kseq.layers.DenseBridge(state_size)
    if config.bridge == "zero":
        return kseq.layers.ZeroBridge(state_size)
    encoder = config.encoder
    reads = len(kseq.layers.CELLS[encoder.cell or config.cell](1).state_size)
    makes = len(state_size) // config.layers
    return kseq.layers.CopyBridge(state_size, reads=reads, makes=makes, directions=2 if encoder.bidirectional else 1)
