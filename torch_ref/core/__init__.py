"""What one training step is: inputs, losses, penalties, the update, its state and how devices share it."""

import torch_ref.with_torch
