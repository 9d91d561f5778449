"""Samples loaded ahead in other processes, while the networks are busy.

Which samples a run will ask for is a function of its recipe (`trainer.Trainer.upcoming`), and a sample one of its key
alone, so what is loaded ahead is what would have been loaded on the spot: workers change the speed and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import FlashWorldError

Key = tuple[str, int, int]  # kind, number, novel views
_PER_WORKER = 2  # samples each worker has ready


class ReadAhead:
    """A data source that has the next samples loaded.

    Args:
        data: the source (`flashworld.networks.Data`); a copy of it goes to each process.
        keys: of the samples that will be asked for, in order. One that is not asked for costs its loading, one that is
            missing is loaded when it is asked for.
        workers: processes, at least 1.
    """

    def __init__(self, data, keys: Iterable[Key], workers: int):
        self.data, self.workers = data, workers
        ahead, self._keys = itertools.tee(keys)
        self._upcoming: list[Key] = []
        self._loader = DataLoader(
            _Samples(data), batch_size=None, sampler=_Keys(ahead), num_workers=workers, prefetch_factor=_PER_WORKER,
            collate_fn=_as_is, worker_init_fn=_one_thread,
        )  # fmt: skip
        self._loaded: Iterator | None = None

    def sample(self, kind: str, number: int, novel_views: int):
        """The scene of a key, see ``data.sample``."""
        key = (kind, number, novel_views)
        # As far as the workers are ahead, and no further: behind that nothing is ready anyway.
        missing = self.workers * _PER_WORKER + 1 - len(self._upcoming)
        self._upcoming += itertools.islice(self._keys, max(0, missing))
        if key not in self._upcoming:
            return self.data.sample(*key)
        if self._loaded is None:
            self._loaded = iter(self._loader)
        while True:
            passed, scene = self._upcoming.pop(0), next(self._loaded)
            if passed == key:
                if isinstance(scene, FlashWorldError):
                    raise scene
                return scene

    def __getattr__(self, name: str):
        return getattr(self.data, name)


class _Samples(Dataset):
    def __init__(self, data):
        self.data = data

    def __getitem__(self, key: Key):
        try:
            return self.data.sample(*key)
        except FlashWorldError as error:  # raised by whoever asked, without the loader's account of it
            return error


class _Keys:
    """An iterator as a sampler."""

    def __init__(self, keys: Iterator[Key]):
        self.keys = keys

    def __iter__(self) -> Iterator[Key]:
        return self.keys


def _as_is(scene):
    return scene


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
