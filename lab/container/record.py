"""What is kept with a container beyond its state: what was asked for, and what it was made of.

containers/<id>/record.json
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from lab.container.options.run import RunOptions
from lab.container.spec import codec
from lab.container.spec.image import ExecutionConfig
from lab.errors import NoSuchContainer

FILE = "record.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One container as its user made it; ``created_ns`` is the time of day, ``image`` what its image says to runs.

    ``image_id`` is the image's configuration digest. ``restarts`` counts those of its policy since a user started it.
    """

    id: str
    created_ns: int
    image_id: str
    args: tuple[str, ...]
    options: RunOptions
    image: ExecutionConfig
    started_ns: int = 0
    restarts: int = 0

    def save(self, bundle: str) -> None:
        """Write the record into a container's directory, whole or not at all.

        Raises:
            OSError: with errno and path.
        """
        path = os.path.join(bundle, FILE)
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(codec.encode(self), file)
        os.replace(path + ".new", path)

    @classmethod
    def load(cls, bundle: str) -> ContainerRecord:
        """Return the record of a container.

        Raises:
            NoSuchContainer: there is none; what a library user of the engine made has none either.
        """
        try:
            with open(os.path.join(bundle, FILE), encoding="utf-8") as file:
                return codec.decode(cls, json.load(file))
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchContainer(f"No such container: {os.path.basename(bundle)}") from None
