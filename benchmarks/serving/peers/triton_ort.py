"""NVIDIA Triton (as pytriton packages it) with its dynamic batching, and ONNX Runtime."""

import os

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["BENCH_ONNX"], options, providers=["CPUExecutionProvider"])


@batch
def infer(inputs: np.ndarray) -> dict[str, np.ndarray]:
    logits = session.run(["logits"], {"inputs": inputs, "lengths": np.full(len(inputs), inputs.shape[1], np.int32)})[0]
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"probabilities": exp / exp.sum(axis=1, keepdims=True)}


channels, classes = session.get_inputs()[0].shape[2], session.get_outputs()[0].shape[1]
port = int(os.environ["BENCH_PORT"])
config = TritonConfig(http_port=port, grpc_port=port + 1, metrics_port=port + 2, log_verbose=0)
with Triton(config=config) as triton:
    triton.bind(
        model_name="peer",
        infer_func=infer,
        inputs=[Tensor(name="inputs", dtype=np.float32, shape=(-1, channels))],
        outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(classes,))],
        config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
    )
    triton.serve()
