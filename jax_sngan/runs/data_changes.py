"""Whether a run may go on though its data have changed: where all images that it has used are there, unchanged."""

from typing import Any

import numpy as np

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.inputs import image_order
from jax_sngan.data import file_digests
from jax_sngan.system.cache_folder import cache_folder


def of_used_images(
    config: TrainConfig, step: int, rollbacks: int, there: dict[str, Any], here: dict[str, Any]
) -> str | None:
    """A line for who goes on with other files than a checkpoint's; None where the images that it has used have changed.

    Which images the checkpoint's steps took is known from the config; what each file was, from the cache.

    Args:
      step, rollbacks: of the checkpoint. After a rollback all images count as used.
      there, here: Dataset.identity() of the checkpoint's data and of today's.
    """
    cache = cache_folder() / "folders"
    before, now = (file_digests.kept(cache, data.get("files_sha256", "")) for data in (there, here))
    if before is None or now is None or (before.image_size, before.channels) != (now.image_size, now.channels):
        return None
    n, taken = len(before.labels), step * config.n_dis * config.batch_size
    used = np.arange(n) if rollbacks or taken >= n else image_order(config.seed, 0, taken, n)
    if not np.isin(before.images()[used], now.images()).all():
        return None
    gone, new = (int((~np.isin(a.images(), b.images())).sum()) for a, b in ((before, now), (now, before)))
    return (
        f"the data have changed ({gone:,} of {n:,} images are gone or other, {new:,} are new), and none of the "
        f"{len(used):,} that the run has used: it goes on with those that are there now, in an order of their own"
    )
