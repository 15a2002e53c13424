"""The HTTP server, and how it ends."""

from __future__ import annotations

import signal
from types import FrameType

import uvicorn

from seg_zero.serving.service import Service


class Server(uvicorn.Server):
    """uvicorn's server, which on a signal refuses new requests and answers the open ones."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's, it does not raise the signal again at the end: the models are closed first."""
        self.service.closing = True
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
