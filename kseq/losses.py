"""Losses over sequences."""

import keras
from keras import ops

from kseq.layers.functional import carried_mask, replica_share


class SequenceLoss(keras.losses.Loss):
    """A loss that is averaged over the positions with weight: in `tf.distribute`, those of the batches of all replicas.

    Keras takes a mean of the means of the replicas, in which a token counts more the fewer its replica has.
    """

    def __init__(self, name, **kwargs):
        super().__init__(name=name, **({"reduction": "mean_with_sample_weight"} | kwargs))

    def __call__(self, y_true, y_pred, sample_weight=None):
        loss = super().__call__(y_true, y_pred, sample_weight)
        if self.reduction != "mean_with_sample_weight":
            return loss
        mask = carried_mask(y_pred)
        if sample_weight is None:
            sample_weight = ops.ones(ops.shape(y_pred)[:-1])
        if mask is not None:
            sample_weight = ops.cast(sample_weight, "float32") * ops.cast(mask, "float32")
        return loss * replica_share(ops.sum(sample_weight))


@keras.saving.register_keras_serializable("kseq")
class TokenCrossentropy(SequenceLoss):
    """Cross-entropy of each token in nats, averaged over the tokens with weight.

        loss = −(1 − ε) log p(y) − ε/V Σ_v log p(v)

    (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567, section 7.) Padding has sample weight 0 and does not
    count, in the sum or in the divisor.

    Args:
        label_smoothing: ε, at least 0 and less than 1.
        weight: what the whole is multiplied by, where a model adds losses of its own.

    Call arguments:
        y_true: int `[batch, time]`, or `[batch]`.
        y_pred: logits `[batch, time, vocabulary]`, or `[batch, labels]`.
        sample_weight: as y_true.

    Raises:
        ValueError: label_smoothing is out of range, or weight is negative.
    """

    def __init__(self, label_smoothing=0.0, weight=1.0, name="token_crossentropy", **kwargs):
        super().__init__(name, **kwargs)
        if weight < 0:
            raise ValueError(f"weight must be at least 0, got {weight}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and less than 1, got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.weight = weight

    def call(self, y_true, y_pred):
        logits = ops.cast(y_pred, "float32")
        normaliser = ops.logsumexp(logits, axis=-1)
        chosen = ops.take_along_axis(logits, ops.cast(y_true, "int32")[..., None], axis=-1)
        loss = normaliser - ops.squeeze(chosen, -1)
        if self.label_smoothing:
            spread = normaliser - ops.mean(logits, axis=-1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * spread
        return self.weight * loss

    def get_config(self):
        return super().get_config() | {"label_smoothing": self.label_smoothing, "weight": self.weight}


@keras.saving.register_keras_serializable("kseq")
class RollCrossentropy(SequenceLoss):
    """Negative log-likelihood of a piano roll in nats: summed over the keys of a step, averaged over the steps with
    weight (as in Boulanger-Lewandowski et al., 2012, https://arxiv.org/abs/1206.6392).

        loss = −Σ_k x_k log σ(z_k) + (1 − x_k) log(1 − σ(z_k)) = Σ_k log(1 + exp z_k) − x_k z_k

    Padding has sample weight 0 and does not count, in the sum or in the divisor.

    Call arguments:
        y_true: zeros and ones, `[batch, time, keys]`.
        y_pred: logits z `[batch, time, keys]`.
        sample_weight: `[batch, time]`.
    """

    def __init__(self, name="roll_crossentropy", **kwargs):
        super().__init__(name, **kwargs)

    def call(self, y_true, y_pred):
        logits = ops.cast(y_pred, "float32")
        return ops.sum(ops.softplus(logits) - ops.cast(y_true, "float32") * logits, axis=-1)
