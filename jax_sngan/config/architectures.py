"""What the options of an architecture may be, and its plan of widths and maps: facts that both frameworks build by.

They stand here and not beside the networks in models/, since a config is checked without loading jax or torch. What
else is known of an architecture is in its own module, models/NAME.py.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Architecture(NamedTuple):
    """What a ModelConfig of an architecture may say."""

    image_sizes: tuple[int, ...] | None  # pixels a side; None: any
    least_widths: Mapping[int, tuple[int, int]] = {}  # by image size, of generator and discriminator where above 1
    classes: bool = True  # whether it can be conditional
    points: bool = False  # whether it makes points of the plane


class ResNetPlan(NamedTuple):
    """One resolution: channels are the width divided by 2 to the power of an entry."""

    base: int  # pixels a side of the generator's first map
    generator: tuple[int, ...]  # the first map, then each block's result
    discriminator: tuple[int, ...]  # each block's result
    downsampling: int  # how many of D's blocks, from the first, halve the map


# Image size -> how often the standard CNN halves its map, down to one of 4 to 8 pixels.
CNN_HALVINGS = {28: 2, 32: 3, 48: 3, 64: 3, 128: 4}

RESNET_PLANS = {
    28: ResNetPlan(7, (0, 0, 0), (0, 0, 0, 0), 2),
    32: ResNetPlan(4, (0, 0, 0, 0), (0, 0, 0, 0), 2),
    48: ResNetPlan(6, (0, 1, 2, 3), (4, 3, 2, 1, 0), 4),
    64: ResNetPlan(4, (0, 1, 2, 3, 4), (4, 3, 2, 1, 0), 5),
    128: ResNetPlan(4, (0, 0, 1, 2, 3, 4), (4, 3, 2, 1, 0, 0), 5),
}

ARCHITECTURES = {
    "standard_cnn": Architecture(tuple(CNN_HALVINGS)),
    "resnet": Architecture(
        tuple(RESNET_PLANS),
        {size: (1 << max(plan.generator), 1 << max(plan.discriminator)) for size, plan in RESNET_PLANS.items()},
    ),
    "mlp": Architecture(None, classes=False, points=True),
}
