"""The networks of the paper and its successors."""

import torch_ref.with_torch
