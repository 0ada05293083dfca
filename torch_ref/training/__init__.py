"""The trainer: the loop over steps, its pictures, scores and checkpoints, until the end or a signal."""

import torch_ref.with_torch
