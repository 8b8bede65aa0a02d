"""The signature of `model.export`: inputs by name, and ids that are integers. That of a run is in `kseq.export`."""

import contextlib

import keras


class NamedSignature:
    """Exports a model with inputs that have names and dtypes. It stands before `keras.Model` among the base classes.

    Keras alone takes all inputs for floats, of the batch and the length of the first call, and numbers them.
    """

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
        """Writes the model in a format for serving, as `keras.Model.export` does.

        The inputs are called as those of `call`: of a `Seq2Seq` "source" and "tokens". Tokens and other sources of two
        axes are ids, int32 `[batch, length]` of any batch and length; a source of more axes is a float of the shape of
        the first call, for any batch. `input_signature` says otherwise.
        """
        if input_signature is None and self.built:
            input_signature = [self._input_specs(self.get_build_config()["input_shape"])]
        return super().export(filepath, format=format, verbose=verbose, input_signature=input_signature, **kwargs)

    def build_by_tracing(self, shapes):
        """Builds all layers by a symbolic call, as Keras does for a model without `build`.

        Ids are int32, as in `export`. Where the call fails, each layer is built when it is first called.
        """
        specs = self._input_specs(shapes)
        if isinstance(shapes, dict):
            inputs = {name: keras.KerasTensor(shapes[name], spec.dtype) for name, spec in specs.items()}
        else:
            inputs = keras.KerasTensor(shapes, specs.dtype)
        with contextlib.suppress(Exception):  # an eager call may do what a symbolic one cannot
            self.compute_output_spec(inputs)

    def _input_specs(self, shapes):
        if not isinstance(shapes, dict):
            return _spec("source", shapes, self.input_dtype)
        return {name: _spec(name, shapes[name], self.input_dtype) for name in self.signature_names}


def _spec(name, shape, dtype):
    if len(shape) == 2:
        return keras.InputSpec(shape=(None, None), dtype="int32", name=name)
    return keras.InputSpec(shape=(None, *shape[1:]), dtype=dtype, name=name)
