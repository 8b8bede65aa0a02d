"""What is set before TensorFlow is imported."""

import os

from kseq.tasks.runner import ENVIRONMENT

for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
