"""TensorFlow as it is wanted here: quiet, off the accelerators, whose memory belongs to JAX, and without Keras.

Everything takes it from here (`from ncl_jax.data.tf import tf`), and only where it is needed.
"""

import contextlib
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # no such operation is used; it announces itself all the same

# TensorFlow imports all of Keras and what that brings, a third of its own import, to register what saved models may
# hold. It goes on where that fails, and Keras is still there for whoever asks for it.
_keras = "keras.src"
_keep_out = _keras not in sys.modules
if _keep_out:
    sys.modules[_keras] = None  # pyright: ignore[reportArgumentType]
try:
    import tensorflow as tf
finally:
    if _keep_out:
        del sys.modules[_keras]

with contextlib.suppress(RuntimeError):  # the caller's own program uses it on them already
    tf.config.set_visible_devices([], "GPU")

__all__ = ["tf"]
