"""ONNX Runtime: the model converted beforehand, float32 throughout, then Arrow batches. `prepare` converts."""

import sys

import numpy as np
import onnxruntime

from benchmarks.bench.peers.frames import Predict, score_in_batches
from benchmarks.bench.work import FEATURES, Task, Work

CONVERTED = "model.onnx"


def prepare(work: Work) -> None:
    """Convert the model and keep it."""
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    shape = FloatTensorType([None, len(FEATURES)])
    booster = lightgbm.Booster(model_file=work.model)
    converted = convert_lightgbm(booster, initial_types=[("rows", shape)], zipmap=False)
    work.prepared(CONVERTED).write_bytes(converted.SerializeToString())


def load(work: Work) -> Predict:
    """The converted model's scores: the probability of 1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = work.threads
    session = onnxruntime.InferenceSession(str(work.prepared(CONVERTED)), options, ["CPUExecutionProvider"])
    return lambda matrix: session.run(["probabilities"], {"rows": matrix.astype(np.float32)})[0][:, 1]


if __name__ == "__main__":
    task = Task.from_arguments()
    prepare(task.work) if "prepare" in sys.argv else score_in_batches(task, load(task.work))
