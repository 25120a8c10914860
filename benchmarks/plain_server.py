"""The server that most people write: a request, a padded batch, a forward pass; one after another.

    python benchmarks/plain_server.py FOLDER PORT

It takes and gives what ``POST /v1/score`` of `assay serve` does, as far as the benchmark asks.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from assay.scorers import RewardModel
from assay.scorers.batches import pad


class Conversation(BaseModel):
    """A prompt and a response."""

    prompt: str
    response: str


class Request(BaseModel):
    """Conversations of one request."""

    conversations: list[Conversation]


def create_app(folder: str) -> FastAPI:
    """Return the application."""
    app, lock = FastAPI(), threading.Lock()
    model: Any = RewardModel.from_pretrained(folder)

    @app.post("/v1/score")
    def score(body: Request) -> dict[str, Any]:  # a plain function: it runs beside the event loop
        encoded = model.encoder.encode([c.prompt for c in body.conversations], [c.response for c in body.conversations])
        ids, mask = pad([one.ids for one in encoded], model.encoder.pad_id)
        with lock, torch.inference_mode():
            values = model(input_ids=ids, attention_mask=mask)["values"]
        return {"scores": [{"value": value} for value in values.tolist()]}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), port=int(sys.argv[2]), log_level="warning", access_log=False)
