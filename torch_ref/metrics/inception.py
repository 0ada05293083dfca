"""The FID's Inception v3 in torch, module by module; its state dict bears the names of the published file.

The reference for jax_sngan/metrics/inception_network.py, which has the architecture as a table: written apart from it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 299  # pixels a side that images are brought to


class BasicConv2d(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, into: int, out: int, kernel: int | tuple[int, int], stride: int = 1, same: bool = False):
        """same: zeros around keep the map's size."""
        super().__init__()
        h, w = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (h // 2, w // 2) if same else (0, 0)
        self.conv = nn.Conv2d(into, out, (h, w), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """[n, into, h, w] -> [n, out, ...]."""
        return F.relu(self.bn(self.conv(x)))


def average(x: Tensor) -> Tensor:
    """3x3 means that do not count the padding."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class MixedA(nn.Module):
    """1x1, 5x5, two 3x3, and a pool."""

    def __init__(self, into: int, pool: int):
        super().__init__()
        self.branch1x1 = BasicConv2d(into, 64, 1)
        self.branch5x5_1 = BasicConv2d(into, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5, same=True)
        self.branch3x3dbl_1 = BasicConv2d(into, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, same=True)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, same=True)
        self.branch_pool = BasicConv2d(into, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, into, h, w] -> [n, 224 + pool, h, w]."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(average(x))], 1)


class MixedB(nn.Module):
    """Halves the map."""

    def __init__(self, into: int):
        super().__init__()
        self.branch3x3 = BasicConv2d(into, 384, 3, 2)
        self.branch3x3dbl_1 = BasicConv2d(into, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, same=True)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[n, into, h, w] -> [n, into + 480, h / 2, w / 2]."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class MixedC(nn.Module):
    """7x7 as rows and columns."""

    def __init__(self, into: int, width: int):
        super().__init__()
        self.branch1x1 = BasicConv2d(into, 192, 1)
        self.branch7x7_1 = BasicConv2d(into, width, 1)
        self.branch7x7_2 = BasicConv2d(width, width, (1, 7), same=True)
        self.branch7x7_3 = BasicConv2d(width, 192, (7, 1), same=True)
        self.branch7x7dbl_1 = BasicConv2d(into, width, 1)
        self.branch7x7dbl_2 = BasicConv2d(width, width, (7, 1), same=True)
        self.branch7x7dbl_3 = BasicConv2d(width, width, (1, 7), same=True)
        self.branch7x7dbl_4 = BasicConv2d(width, width, (7, 1), same=True)
        self.branch7x7dbl_5 = BasicConv2d(width, 192, (1, 7), same=True)
        self.branch_pool = BasicConv2d(into, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, into, h, w] -> [n, 768, h, w]."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average(x))], 1)


class MixedD(nn.Module):
    """Halves the map again."""

    def __init__(self, into: int):
        super().__init__()
        self.branch3x3_1 = BasicConv2d(into, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, 2)
        self.branch7x7x3_1 = BasicConv2d(into, 192, 1)
        self.branch7x7x3_2 = BasicConv2d(192, 192, (1, 7), same=True)
        self.branch7x7x3_3 = BasicConv2d(192, 192, (7, 1), same=True)
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[n, into, h, w] -> [n, into + 512, h / 2, w / 2]."""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class MixedE(nn.Module):
    """Wide; the last one pools by maximum."""

    def __init__(self, into: int, last: bool):
        super().__init__()
        self.last = last
        self.branch1x1 = BasicConv2d(into, 320, 1)
        self.branch3x3_1 = BasicConv2d(into, 384, 1)
        self.branch3x3_2a = BasicConv2d(384, 384, (1, 3), same=True)
        self.branch3x3_2b = BasicConv2d(384, 384, (3, 1), same=True)
        self.branch3x3dbl_1 = BasicConv2d(into, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3, same=True)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, (1, 3), same=True)
        self.branch3x3dbl_3b = BasicConv2d(384, 384, (3, 1), same=True)
        self.branch_pool = BasicConv2d(into, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, into, h, w] -> [n, 2048, h, w]."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        pooled = F.max_pool2d(x, 3, 1, 1) if self.last else average(x)
        return torch.cat([*parts, self.branch_pool(pooled)], 1)


class Inception(nn.Module):
    """Images [n, 3, h, w] in 0 to 255 -> every feature layer by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, same=True)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.Mixed_5b = MixedA(192, 32)
        self.Mixed_5c = MixedA(256, 64)
        self.Mixed_5d = MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b = MixedC(768, 128)
        self.Mixed_6c = MixedC(768, 160)
        self.Mixed_6d = MixedC(768, 160)
        self.Mixed_6e = MixedC(768, 192)
        self.Mixed_7a = MixedD(768)
        self.Mixed_7b = MixedE(1280, last=False)
        self.Mixed_7c = MixedE(2048, last=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """As the class says."""
        features = {}
        x = (resize(x) - 128) / 128
        x = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, 2)
        features["64"] = x.mean((2, 3))
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        features["192"] = x.mean((2, 3))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        features["768"] = x.mean((2, 3))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
        features["2048"] = x
        features["logits_unbiased"] = F.linear(x, self.fc.weight)
        features["logits"] = self.fc(x)
        return features


def resize(x: Tensor) -> Tensor:
    """[n, c, h, w] -> [n, c, 299, 299], TensorFlow 1's bilinear: each row and column as a matrix of two weights."""
    rows, columns = (_interpolation(size, x.dtype).to(x.device) for size in x.shape[2:])
    return rows @ x @ columns.T


def _interpolation(size: int, dtype: torch.dtype) -> Tensor:
    """[299, size]: row i has 1 - f and f at floor(i * size / 299) and the next, of which f is the fraction.

    Positions are in float32, as TensorFlow's operator has them: in float64 a grey level may differ by 1/100.
    """
    position = (torch.arange(SIZE, dtype=torch.float32) * (size / SIZE)).double()
    lower = position.floor().long()
    matrix = torch.zeros(SIZE, size, dtype=torch.float64)
    matrix.scatter_add_(1, lower[:, None], (1 - position + lower)[:, None])
    matrix.scatter_add_(1, (lower + 1).clamp(max=size - 1)[:, None], (position - lower)[:, None])
    return matrix.to(dtype)
