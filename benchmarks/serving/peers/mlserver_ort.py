"""MLServer with its batching, and ONNX Runtime."""

import os

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Peer(MLModel):
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["BENCH_ONNX"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        lengths = np.full(len(inputs), inputs.shape[1], np.int32)
        logits = self.session.run(["logits"], {"inputs": inputs, "lengths": lengths})[0]
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        output = NumpyCodec.encode_output("probabilities", exp / exp.sum(axis=1, keepdims=True))
        return InferenceResponse(model_name=self.name, outputs=[output])
