"""What a store of labels was made from, so that other labels are not taken for those that it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from himlip_ase.labels.formats import format_of
from himlip_ase.labels.label_keys import KNOWN_KEYS, LabelKeys
from himlip_ase.labels.readers import LABEL_FILES, QE_OUTPUT


@dataclass(frozen=True)
class Origin:
    """Names and sizes of label files, and the keys that they were read with.

    Attributes
    ----------
    sizes : dict of str to int
        Bytes of each file, or of the label files of each folder, by its name in its folder; −1 of what is not
        there.
    keys : dict of str to str
        Those of `LabelKeys` that were given.
    """

    sizes: dict[str, int]
    keys: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Sequence[str | os.PathLike], keys: LabelKeys = KNOWN_KEYS) -> Origin:
        """What is on the disk now.

        Parameters
        ----------
        paths : sequence of path-like
            Files and folders, as `read_labels` takes them.
        keys : LabelKeys

        Returns
        -------
        Origin
        """
        places = [Path(path).resolve() for path in paths]
        return cls({f"{place.parent.name}/{place.name}": _size(place) for place in places}, keys.named)

    @classmethod
    def from_text(cls, text: str) -> Origin:
        """What `to_text` wrote."""
        return cls(**json.loads(text))

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    def matches(self, other: Origin) -> bool:
        """Whether `other` has the same names and keys."""
        return self.sizes.keys() == other.sizes.keys() and self.keys == other.keys

    def changed(self, other: Origin) -> list[str]:
        """Names of what is there in both and has another size in `other`."""
        sizes = {name: (size, other.sizes.get(name, -1)) for name, size in self.sizes.items()}
        return [name for name, both in sizes.items() if -1 not in both and both[0] != both[1]]

    def __str__(self) -> str:
        keys = "".join(f" --{kind}-key {key}" for kind, key in self.keys.items())
        return " ".join(f"--labels {name}" for name in self.sizes) + keys


def _size(path: Path) -> int:
    if not path.exists():
        return -1
    if path.is_file():
        return path.stat().st_size
    files = [each for each in path.rglob("*") if each.is_file()]
    if format_of(path).fallback:  # else all of it is one set of labels
        own = [each for each in path.iterdir() if each.suffix in LABEL_FILES]
        files = own or [each for each in files if each.name == QE_OUTPUT]
    return sum(each.stat().st_size for each in files)
