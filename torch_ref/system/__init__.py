"""The machine and its files: processes, signals, locks, caches, and readers that bound what they decode."""

import torch_ref.with_torch
