"""Starlette and ONNX Runtime, a request at a time: what a careful user writes by hand in an hour."""

import os

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["BENCH_ONNX"], options, providers=["CPUExecutionProvider"])


async def predict(request: Request) -> Response:
    inputs = np.array(orjson.loads(await request.body())["inputs"], dtype=np.float32)
    logits = session.run(["logits"], {"inputs": inputs, "lengths": np.full(len(inputs), inputs.shape[1], np.int32)})[0]
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exp / exp.sum(axis=1, keepdims=True)
    return Response(orjson.dumps({"probabilities": probabilities.tolist()}), media_type="application/json")


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), loop="uvloop", http="httptools", access_log=False)
