"""What is set before TensorFlow is imported."""

import os

from kseq.tasks.runner import ENVIRONMENT

os.environ.setdefault("TF_NUM_INTEROP_THREADS", ENVIRONMENT["TF_NUM_INTEROP_THREADS"])
