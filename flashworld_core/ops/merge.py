"""Join scenes into one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import FlashWorldError
from ..gaussians import MERGED_FROM, Gaussians
from ..sh import with_sh_degree


def merge(scenes: Sequence[Gaussians]) -> Gaussians:
    """Join scenes into one, in the order given.

    The lower spherical-harmonics degrees are filled up with zeros. Tensors come out on the first scene's device in
    the widest dtype. Metadata entries that all scenes share stay; the rest would be wrong for the whole, so each
    scene's own metadata goes to the list ``merged_from``.

    Raises:
        FlashWorldError: no scenes at all.
    """
    scenes = list(scenes)
    if not scenes:
        raise FlashWorldError("Give at least one scene.")
    degree = max(scene.sh_degree for scene in scenes)
    device = scenes[0].device

    def join(tensors):
        tensors = list(tensors)
        dtype = tensors[0].dtype
        for tensor in tensors[1:]:
            dtype = torch.promote_types(dtype, tensor.dtype)
        return torch.cat([t.to(device, dtype) for t in tensors])

    return Gaussians(
        join(s.means for s in scenes),
        join(s.quats for s in scenes),
        join(s.scales for s in scenes),
        join(s.opacities for s in scenes),
        join(with_sh_degree(s.sh, degree) for s in scenes),
        _merged_metadata([s.metadata for s in scenes]),
    )


def _merged_metadata(sources: list[dict]) -> dict:
    if all(source == sources[0] for source in sources):
        return dict(sources[0])
    origins = []
    for source in sources:  # a merge of merges stays one flat list
        origins += source[MERGED_FROM] if isinstance(source.get(MERGED_FROM), list) else [source]
    shared = {
        key: value
        for key, value in sources[0].items()
        if key != MERGED_FROM and all(key in source and source[key] == value for source in sources[1:])
    }
    return {**shared, MERGED_FROM: origins}
