"""u and v of one matrix as a module's part, with which a layer of one's own has a spectral norm."""

from flax import nnx
from jax import Array

from jax_sngan.nn.kernels import nonnegative
from jax_sngan.nn.modes import is_training
from jax_sngan.nn.spectral_norm import Vectors, estimate_sigma
from jax_sngan.nn.spectral_options import SpectralNormOptions


class PowerIteration(Vectors):
    """u and v of one matrix, and the sigma that they give: what a layer of one's own is built with.

    `SpectralNorm` wraps a layer and needs none of this.
    """

    def __init__(
        self,
        matrix: Array,
        options: SpectralNormOptions | bool = True,
        rngs: nnx.Rngs | None = None,
        *,
        kernel: nnx.Variable | None = None,
        out_axes: int | tuple[int, ...] = -1,
    ):
        """u and v are drawn from rngs, and warmed up on matrix if the options say so.

        Args:
          matrix: [out, rest], of which calls give the norm.
          kernel: the variable that the matrix is made from, where it is to be trained by a GAN's step: that moves u and
            v of a whole network before its passes (`iterate`), and finds the matrix by this.
          out_axes: of the kernel: which become rows.
        """
        found = SpectralNormOptions.of(options)
        if found is None or rngs is None:
            raise ValueError("PowerIteration needs options and rngs")
        super().__init__(matrix, found, rngs)
        self.kernel = kernel
        self.out_axes = () if kernel is None else nonnegative(out_axes, kernel[...].ndim)
        self.held = False  # whether training passes leave u and v as they are

    def divisor(self, matrix: Array, *, train: bool | None = None) -> Array:
        """[] what gives a kernel the target norm: sigma over the target."""
        return self(matrix, train=train) / self.options.target

    def __call__(self, matrix: Array, *, train: bool | None = None) -> Array:
        """[] sigma of matrix [out, rest]; a training pass moves u and v first, an evaluation never does."""
        if self.held:
            return estimate_sigma(matrix, self.u[...], self.v[...])
        return self._sigma(matrix, is_training(self, train))
