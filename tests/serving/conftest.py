"""Small models behind a server: in this process, and as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assay.scorers import ModelOptions, RewardModel, create_reward_model
from assay.scorers.core import ScoringCore

PROMPTS = ["Name a sea.", "What is a bird?", "Tell me about one river, please.", "Name a sea."]
TEXTS = ["The Baltic.", "It flies, certainly, and that is the reason given.", "No.", "This is boring."]


@pytest.fixture(scope="session")
def causal(tiny_chat: Path, learned: Callable[..., Any]) -> RewardModel:
    """Return a causal reward model with a chat template, calibrated."""
    model = learned(create_reward_model(ModelOptions(backbone=str(tiny_chat))))
    model.record.calibration = {"kind": "temperature", "temperature": 2.0}
    return model


@pytest.fixture(scope="session")
def ensemble(tiny_causal: Path, learned: Callable[..., Any]) -> RewardModel:
    """Return a model of four heads, which tells how sure it is."""
    return learned(create_reward_model(ModelOptions(backbone=str(tiny_causal), members=4, head="mlp")))


@pytest.fixture(scope="session")
def encoder(tiny_encoder: Path, learned: Callable[..., Any]) -> RewardModel:
    """Return a reward model that reads in both directions."""
    return learned(create_reward_model(ModelOptions(backbone=str(tiny_encoder))))


@pytest.fixture(scope="session")
def model_folder(causal: RewardModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the causal model."""
    folder = tmp_path_factory.mktemp("served") / "rm"
    causal.stamp()
    causal.save_pretrained(folder)
    return folder


@contextmanager
def serving(model: Any, *, key: str | None = None, more: Any = (), **limits: Any) -> Iterator[Any]:
    """Serve a model in this process; give a client that speaks to it without a network."""
    from fastapi.testclient import TestClient

    from assay.serving.app import OPEN, create_app
    from assay.serving.guards import Keys, Rules
    from assay.serving.service import Limits, Service

    rules = {name: limits.pop(name) for name in ("most_bytes", "body_seconds", "hosts") if name in limits}
    core = model if isinstance(model, ScoringCore) else ScoringCore(model)
    service = Service(core, "rm", Limits(**limits))
    app = create_app(service, Rules(Keys(key), OPEN, **rules), more(service) if callable(more) else more)
    with TestClient(app, raise_server_exceptions=False) as client:
        client.service = service  # type: ignore[attr-defined]
        yield client


@contextmanager
def listening(model: Any, *, key: str | None = None, **limits: Any) -> Iterator[str]:
    """Serve a model in this process, on a free port; give its address."""
    import socket

    import uvicorn

    from assay.serving.app import OPEN, create_app
    from assay.serving.guards import Keys, Rules
    from assay.serving.service import Limits, Service

    rules = {name: limits.pop(name) for name in ("most_bytes", "body_seconds", "hosts") if name in limits}
    service = Service(ScoringCore(model), "rm", Limits(**limits))
    app = create_app(service, Rules(Keys(key), OPEN, **rules))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def process(*words: str, key: str | None = None, cwd: Path | None = None) -> Iterator[tuple[Any, str]]:
    """Run ``assay serve`` as a process of its own on a free port; give it and its address."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"} | ({"ASSAY_SERVE_KEY": key} if key else {})
    command = [sys.executable, "-m", "assay.cli", "serve", *words, *([] if "--port" in words else ["--port", "0"])]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=cwd
    )
    try:
        told: list[str] = []
        assert started.stdout is not None
        for line in started.stdout:
            told.append(line)
            if found := re.search(r" at (http://\S+) ", line):
                break
        else:
            raise AssertionError("it did not start:\n" + "".join(told))
        place = found[1]
        _wait_for(place)
        yield started, place
    finally:
        if started.poll() is None:
            started.kill()
        started.wait(10)
        started.stdout.close()  # type: ignore[union-attr]


def _wait_for(place: str) -> None:
    import httpx

    for _ in range(200):
        try:
            httpx.get(f"{place}/health", timeout=1)
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"{place} does not answer")
