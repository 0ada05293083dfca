"""Time and memory of a training step beside torch's, measured and counted."""

import torch_ref.with_torch
