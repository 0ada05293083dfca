"""What a run leaves behind: its folder, checkpoints, log, pictures; and images from them."""

import torch_ref.with_torch
