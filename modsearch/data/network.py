"""Whether the Hugging Face hub is in reach, known in seconds."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

SECONDS = 3.0
"""That the hub has for an answer before it counts as out of reach."""


@contextmanager
def known_network() -> Iterator[bool]:
    """Without a way to the hub its libraries are offline inside: they take what is in their cache
    and else say so at once, instead of trying again for half a minute. Gives whether they are."""
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    if not any(before) and not _reachable(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield constants.HF_HUB_OFFLINE or config.HF_HUB_OFFLINE
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


@cache
def _reachable(endpoint: str) -> bool:
    """Whether a connection to the hub, or to the proxy before it, can be opened in time."""
    target = urlsplit(getproxies().get(urlsplit(endpoint).scheme, endpoint))
    opened: list[bool] = []

    def connect() -> None:
        with suppress(OSError), socket.create_connection(
            (str(target.hostname), target.port or (80 if target.scheme == "http" else 443)),
            timeout=SECONDS,
        ):  # fmt: skip
            opened.append(True)

    # In a thread: names are looked up without a time limit.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return bool(opened)
