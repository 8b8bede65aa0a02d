"""One dtype policy for a layer and the layers that it is made of."""

import keras


def share_dtype(dtype, *parts):
    """Gives the parts of a layer, and their parts, one dtype policy.

    Args:
        dtype: what the layer was given as its dtype; None for that of its parts, which must then be the same.
        parts: layers.

    Returns:
        the policy.

    Raises:
        ValueError: the parts have different policies and `dtype` is None, or a part has weights of another dtype.
    """
    if dtype is None:
        policies = {part.name: part.dtype_policy for part in parts}
        policy = parts[0].dtype_policy
        if any(other != policy for other in policies.values()):
            names = ", ".join(f"{name} has {policy.name}" for name, policy in policies.items())
            raise ValueError(f"the parts of a layer must have one dtype, but {names}; give dtype to the whole layer")
        return policy
    policy = keras.dtype_policies.get(dtype)
    for layer in (layer for part in parts for layer in part._flatten_layers()):
        if layer.weights and layer.variable_dtype != policy.variable_dtype:
            raise ValueError(
                f"{layer.name} has weights of {layer.variable_dtype} already and cannot be used with "
                f"dtype={policy.name!r}; make a new one"
            )
        layer.dtype_policy = policy
    return policy
