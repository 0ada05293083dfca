import torch_ref.with_torch
