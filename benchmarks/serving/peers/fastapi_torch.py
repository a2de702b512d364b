"""FastAPI, pydantic and torch, a request at a time: the usual tutorial, on one thread."""

import os

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from torch_model import load

model = load()
app = FastAPI()


class Body(BaseModel):
    inputs: list[list[list[float]]]


@app.post("/predict")
async def predict(body: Body) -> dict[str, list[list[float]]]:
    with torch.inference_mode():
        return {"probabilities": model(torch.tensor(body.inputs)).tolist()}


uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), loop="uvloop", http="httptools", access_log=False)
