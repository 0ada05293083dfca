"""Deliberate one-line mistakes in jax_sngan, each of which the ladder must catch (`python -m parity_tests.teeth`)."""

from typing import NamedTuple


class Mistake(NamedTuple):
    """One replacement in one line of one file."""

    name: str
    file: str  # in jax_sngan/
    old: str  # in one line of the file, once in the file
    new: str
    effect: str  # what it would do in training
    test: str  # a test of the ladder that catches it: what `teeth --quick` runs alone


def _rung_1(test: str) -> str:
    return f"test_1_ops.py::{test}"


def _rung_2(test: str) -> str:
    return f"test_2_layers.py::{test}"


def _rung_3(test: str) -> str:
    return f"test_3_networks.py::test_passes_agree[{test}]"


def _rung_4(test: str) -> str:
    return f"test_4_losses.py::{test}"


def _rung_5(test: str) -> str:
    return f"test_5_update.py::{test}"


_MAPS = _rung_1("test_the_three_maps_and_their_forms")
_RESAMPLING = _rung_1("test_resampling_and_its_gradient")
_TORCH_REFS = _rung_1("test_spectral_functions_are_torch_refs")
_LAYER, _BATCH_NORM, _BLOCK = _rung_2("test_layer"), _rung_2("test_batch_norm"), _rung_2("test_block")
_CNN_G, _CNN_D = (
    _rung_3("standard_cnn-32x3-classes-float64--generator"),
    _rung_3("standard_cnn-32x3-classes-float64--discriminator"),
)
_RESNET_G, _RESNET_D = (
    _rung_3("resnet-32x1-classes-float64--generator"),
    _rung_3("resnet-32x1-classes-float64--discriminator"),
)
_LOSS = _rung_4("test_loss_and_gradients")
_STEP = _rung_5("test_one_step_in_float64")
_PLAIN, _TWO, _FIRST = f"{_STEP}[hinge]", f"{_STEP}[two D updates]", f"{_STEP}[generator first]"

MISTAKES = [
    # Spectral norm -----------------------------------------------------------------------------------------------
    Mistake(
        "eps inside the root",
        "nn/spectral_norm.py",
        "jnp.sqrt(jnp.sum(x * x))",
        "jnp.sqrt(jnp.sum(x * x) + eps)",
        "u and v are shorter than 1, sigma too small, wherever W v is small",
        _TORCH_REFS,
    ),
    Mistake(
        "eps added to the norm, not its floor",
        "nn/spectral_norm.py",
        "(jnp.maximum(norm, eps) if",
        "(norm + eps if",
        "Chainer's guard for torch's: another sigma for small kernels",
        _TORCH_REFS,
    ),
    Mistake(
        "u and v swapped",
        "nn/spectral_norm.py",
        "return u, v",
        "return v, u",
        "square kernels train on with the wrong vectors; others fail",
        _rung_1("test_power_iteration_is_torchs_spectral_norm"),
    ),
    Mistake(
        "u never renewed",
        "nn/spectral_norm.py",
        'if order == "v_first":',
        'if order != "v_first":',
        "sigma stays that of a random u: far too small",
        _TORCH_REFS,
    ),
    Mistake(
        "the orders of the iteration swapped",
        "nn/spectral_norm.py",
        'if order == "u_first":',
        'if order == "v_first":',
        "v is made of a newer u: half an iteration ahead of torch",
        _TORCH_REFS,
    ),
    Mistake(
        "one iteration whatever is asked",
        "nn/spectral_norm.py",
        "for _ in range(iterations):",
        "for _ in range(1):",
        "the option and the warm-up do nothing",
        _TORCH_REFS,
    ),
    Mistake(
        "sigma detached",
        "nn/spectral_norm.py",
        "matrix / estimate_sigma(matrix, u, v)",
        "matrix / lax.stop_gradient(estimate_sigma(matrix, u, v))",
        "the gradient lacks the part along u v^T",
        _rung_1("test_gradients_see_u_and_v_as_constants"),
    ),
    Mistake(
        "sigma detached in the layers",
        "nn/layers.py",
        "kernel / self.norm(self._matrix(kernel), train=train)",
        "kernel / jax.lax.stop_gradient(self.norm(self._matrix(kernel), train=train))",
        "D's kernels grow along u v^T unchecked",
        _LAYER,
    ),
    Mistake(
        "gradient through u",
        "nn/spectral_norm.py",
        "jnp.sum(lax.stop_gradient(u) * _matvec",
        "jnp.sum(u * _matvec",
        "whoever differentiates in u gets a gradient that no reference has",
        _rung_1("test_gradients_see_u_and_v_as_constants"),
    ),
    Mistake(
        "gradient through the power iteration",
        "nn/spectral_norm.py",
        "(lax.stop_gradient(a) for a in (matrix, u, v))",
        "(a for a in (matrix, u, v))",
        "the backward pass runs through every iteration",
        _rung_1("test_gradients_see_u_and_v_as_constants"),
    ),
    Mistake(
        "iteration in evaluation, kept",
        "nn/spectral_norm.py",
        "if train:",
        "if True:",
        "looking at D changes it; scores depend on how often they are asked for",
        _LAYER,
    ),
    Mistake(
        "iteration in evaluation, not kept",
        "nn/spectral_norm.py",
        'elif self.config.evaluation == "iterate":',
        "else:",
        "Chainer's evaluation for torch's",
        _LAYER,
    ),
    Mistake(
        "no iteration in the authors' evaluation",
        "nn/spectral_norm.py",
        "u, v = self._iterate(matrix, u, v, 1)",
        "u, v = self._iterate(matrix, u, v, 0)",
        "torch's evaluation for Chainer's",
        _rung_2("test_the_authors_rule"),
    ),
    Mistake(
        "u kept, v forgotten",
        "nn/spectral_norm.py",
        "self.u[...], self.v[...] = u, v",
        "self.u[...] = u",
        "evaluation takes sigma from a v of the first day",
        _LAYER,
    ),
    Mistake(
        "fresh u and v not of unit length",
        "nn/spectral_norm.py",
        'if config.init == "unit":',
        'if config.init == "normal":',
        "an evaluation before training has a sigma many times too large",
        _rung_2("test_a_fresh_layer_has_unit_vectors"),
    ),
    Mistake(
        "no warm-up",
        "nn/spectral_norm.py",
        "self._iterate(matrix, u, v, config.warmup)",
        "self._iterate(matrix, u, v, 0)",
        "the first steps see a sigma far too small",
        _rung_2("test_warm_up_happens_when_a_layer_is_made"),
    ),
    # Layers ------------------------------------------------------------------------------------------------------
    Mistake(
        "kernel matrix not transposed",
        "nn/layers.py",
        "kernel.reshape(-1, kernel.shape[-1]).T",
        "kernel.reshape(kernel.shape[-1], -1)",
        "the right shape with the wrong entries: sigma of another matrix, D not Lipschitz",
        _LAYER,
    ),
    Mistake(
        "ConvTranspose's matrix without its transpose",
        "nn/layers.py",
        "kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)",
        "kernel.reshape(kernel.shape[2], -1)",
        "the same in a normalised transposed convolution",
        _LAYER,
    ),
    Mistake(
        "Glorot's gain not squared",
        "nn/layers.py",
        "variance_scaling(gain**2,",
        "variance_scaling(gain,",
        "the residual blocks start with kernels 16 % too small",
        _rung_2("test_kernels_start_as_torchs"),
    ),
    # Convolutions ------------------------------------------------------------------------------------------------
    Mistake(
        "'SAME' padding at stride 2",
        "nn/conv.py",
        "x, kernel, (stride, stride), [(padding, padding)] * 2,",
        'x, kernel, (stride, stride), "SAME" if stride == 2 else [(padding, padding)] * 2,',
        "XLA pads below and right alone: an odd kernel sees maps shifted by a pixel",
        _MAPS,
    ),
    Mistake(
        "kernel not turned in the transpose",
        "nn/conv.py",
        "jnp.flip(kernel, (0, 1)).swapaxes(2, 3)",
        "kernel.swapaxes(2, 3)",
        "gradients of D's stride-1 convolutions are those of the mirrored kernel",
        _MAPS,
    ),
    Mistake(
        "sub-pixel phases one pixel off",
        "nn/conv.py",
        "first = (phase + padding) % stride",
        "first = phase % stride",
        "each pixel of a transposed convolution meets another pixel's taps",
        _MAPS,
    ),
    Mistake(
        "padding of the correlation seen from y",
        "nn/conv.py",
        "columns_kernel_gradient(y, x, k, 1, k - 1 - padding)",
        "columns_kernel_gradient(y, x, k, 1, padding)",
        "right at k = 3, padding 1, wrong at every other: the kernel's gradient is shifted",
        _MAPS,
    ),
    Mistake(
        "kernel gradient not turned back",
        "nn/conv.py",
        "jnp.flip(turned, (0, 1)).swapaxes(2, 3)",
        "turned.swapaxes(2, 3)",
        "G's last convolution learns the mirrored kernel",
        _MAPS,
    ),
    Mistake(
        "half of a second derivative lost",
        "nn/conv.py",
        "x.shape[1:3], stride, padding), conv(x, kernel, stride, padding)",
        "x.shape[1:3], stride, padding), 0 * conv(x, kernel, stride, padding)",
        "a gradient penalty pulls in a wrong direction; nothing else sees it",
        _rung_1("test_kernel_gradient_to_the_second_derivative"),
    ),
    # Batch normalisation -----------------------------------------------------------------------------------------
    Mistake(
        "biased running variance",
        "nn/batch_norm.py",
        "unbiased = var * (count / max(count - 1, 1))",
        "unbiased = var",
        "flax's statistic for torch's: evaluation too bright by 1 / (2 count)",
        _rung_2("test_running_statistics_in_closed_form"),
    ),
    Mistake(
        "momentum reversed",
        "nn/batch_norm.py",
        "(1 - self.momentum) * stat[...] + self.momentum * value",
        "self.momentum * stat[...] + (1 - self.momentum) * value",
        "flax's momentum for torch's: running statistics are nearly the last batch's",
        _rung_2("test_running_statistics_in_closed_form"),
    ),
    Mistake(
        "BatchNorm's eps outside the root",
        "nn/batch_norm.py",
        "lax.rsqrt(var + self.eps)",
        "(1 / (jnp.sqrt(var) + self.eps))",
        "another scale of every map",
        _BATCH_NORM,
    ),
    Mistake(
        "variance in one pass",
        "nn/batch_norm.py",
        "jnp.mean(jnp.square(x - _last(mean, x)), axes)",
        "jnp.mean(jnp.square(x), axes) - jnp.square(mean)",
        "no digits left where the mean is large; negative variances, NaN",
        _rung_2("test_a_large_mean_keeps_its_digits"),
    ),
    Mistake(
        "batch statistics in evaluation",
        "nn/batch_norm.py",
        "if train:",
        "if True:",
        "a sample depends on the others drawn with it",
        _BATCH_NORM,
    ),
    Mistake(
        "batch statistics detached",
        "nn/batch_norm.py",
        "mean, var = batch_moments(x)",
        "mean, var = lax.stop_gradient(batch_moments(x))",
        "G's gradients keep what BatchNorm takes away",
        _BATCH_NORM,
    ),
    Mistake(
        "every image of class 0",
        "nn/batch_norm.py",
        "p[labels]",
        "p[0 * labels]",
        "conditional BatchNorm ignores the class",
        _BATCH_NORM,
    ),
    # Resampling and blocks ---------------------------------------------------------------------------------------
    Mistake(
        "sum for mean in pooling",
        "nn/resample.py",
        "return jnp.mean(x.reshape",
        "return jnp.sum(x.reshape",
        "each block of D enlarges its map fourfold",
        _RESAMPLING,
    ),
    Mistake(
        "map tiled, not enlarged",
        "nn/resample.py",
        "jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c))",
        "jnp.broadcast_to(x[:, None, :, None, :], (n, 2, h, 2, w, c))",
        "G's images are mosaics",
        _RESAMPLING,
    ),
    Mistake(
        "bilinear edges swapped",
        "nn/resample.py",
        "for i in (0, size - 1))",
        "for i in (size - 1, 0))",
        "maps wrap around their borders",
        _RESAMPLING,
    ),
    Mistake(
        "shortcut sees the ReLU's result",
        "nn/blocks.py",
        'shortcut = active if self.shortcut_input == "activated" else x',
        "shortcut = active",
        "torch-mimicry's in-place ReLU where it was not asked for",
        _BLOCK,
    ),
    Mistake(
        "no second ReLU in a generator block",
        "nn/blocks.py",
        "h = jax.nn.relu(self.norm2(h, labels, train=train))",
        "h = self.norm2(h, labels, train=train)",
        "half of G's nonlinearity is gone",
        _BLOCK,
    ),
    Mistake(
        "ReLU on D's images",
        "nn/blocks.py",
        "self.conv1(x, train=train)",
        "self.conv1(jax.nn.relu(x), train=train)",
        "D's first convolution does not see dark pixels",
        _BLOCK,
    ),
    # Networks ----------------------------------------------------------------------------------------------------
    Mistake(
        "slope of the leaky ReLU at 0",
        "models/standard_cnn.py",
        "jnp.where(x > 0, x, 0.1 * x)",
        "jnp.where(x >= 0, x, 0.1 * x)",
        "jax.nn's slope for torch's, where a map is exactly 0",
        _rung_1("test_leaky_relu_at_zero"),
    ),
    Mistake(
        "leaky slope 0.2",
        "models/standard_cnn.py",
        "jnp.where(x > 0, x, 0.1 * x)",
        "jnp.where(x > 0, x, 0.2 * x)",
        "DCGAN's slope for the paper's",
        _rung_1("test_leaky_relu_at_zero"),
    ),
    Mistake(
        "mean over features in the projection",
        "models/standard_cnn.py",
        "jnp.sum(self.embed(labels, train=train) * features, axis=1)",
        "jnp.mean(self.embed(labels, train=train) * features, axis=1)",
        "D hardly sees the class",
        _CNN_D,
    ),
    Mistake(
        "no tanh",
        "models/standard_cnn.py",
        "return jnp.tanh(self.to_image(h, train=train))",
        "return self.to_image(h, train=train)",
        "G's images leave [-1, 1]",
        _CNN_G,
    ),
    Mistake(
        "mean for sum over D's last map",
        "models/resnet.py",
        "jnp.sum(jax.nn.relu(x), (1, 2))",
        "jnp.mean(jax.nn.relu(x), (1, 2))",
        "scores 64 times too small: hinge never reaches its margins",
        _RESNET_D,
    ),
    Mistake(
        "no last ReLU in D",
        "models/resnet.py",
        "jnp.sum(jax.nn.relu(x), (1, 2))",
        "jnp.sum(x, (1, 2))",
        "D's last block is linear in its features",
        _RESNET_D,
    ),
    Mistake(
        "G's last BatchNorm always trains",
        "models/resnet.py",
        "self.norm(h, train=train)",
        "self.norm(h, train=True)",
        "samples depend on their batch, and sampling moves the statistics",
        _RESNET_G,
    ),
    Mistake(
        "what a pass carries on is lost",
        "models/__init__.py",
        "return y, _split(module)[1]",
        "return y, variables",
        "u, v and the running statistics stay those of the first step",
        _CNN_D,
    ),
    # Losses ------------------------------------------------------------------------------------------------------
    Mistake(
        "hinge sign",
        "losses.py",
        "jnp.mean(jax.nn.relu(1 + fake))",
        "jnp.mean(jax.nn.relu(1 - fake))",
        "D learns to call generated images real",
        _LOSS,
    ),
    Mistake(
        "sum for mean in a loss",
        "losses.py",
        "return jnp.mean(jax.nn.softplus(-fake))",
        "return jnp.sum(jax.nn.softplus(-fake))",
        "G's loss grows with the batch; Adam hides most of it",
        _LOSS,
    ),
    Mistake(
        "the saturating loss",
        "losses.py",
        "return jnp.mean(jax.nn.softplus(-fake))",
        "return -jnp.mean(jax.nn.softplus(fake))",
        "G's gradient dies where D is sure",
        _LOSS,
    ),
    Mistake(
        "critic's sign",
        "losses.py",
        "return jnp.mean(fake) - jnp.mean(real)",
        "return jnp.mean(real) - jnp.mean(fake)",
        "critic and generator pull the same way",
        _LOSS,
    ),
    Mistake(
        "hinge counts its margin",
        "losses.py",
        "jnp.mean(jax.nn.relu(1 - real))",
        "jnp.mean(jnp.where(real <= 1, 1 - real, 0))",
        "a gradient from scores that lie exactly on the margin",
        _LOSS,
    ),
    # Optimiser ---------------------------------------------------------------------------------------------------
    Mistake(
        "Adam's eps before the correction",
        "optim.py",
        "(jnp.sqrt(v) / jnp.sqrt(c2) + config.eps)",
        "((jnp.sqrt(v) + config.eps) / jnp.sqrt(c2))",
        "eps 3 to 30 times too large in the first steps",
        _rung_1("test_adam"),
    ),
    Mistake(
        "Adam's betas mixed up",
        "optim.py",
        "(1 - config.beta2) * (g * g)",
        "(1 - config.beta1) * (g * g)",
        "the second moment is too large, steps too small",
        _rung_1("test_adam"),
    ),
    Mistake(
        "Adam's correction squared",
        "optim.py",
        "(jnp.sqrt(c2) / c1) * m",
        "(c2 / c1) * m",
        "the authors' form starts with steps too small",
        _rung_1("test_adam"),
    ),
    Mistake(
        "digits of 1 - beta^t lost",
        "optim.py",
        "-jnp.expm1(count.astype(dtype) * math.log(beta))",
        "1 - jnp.asarray(beta, dtype) ** count.astype(dtype)",
        "float32 steps off by 1e-5, as optax's",
        _rung_1("test_adam"),
    ),
    Mistake(
        "Adam's count stands still",
        "optim.py",
        "optax.ScaleByAdamState(count=count, mu=mu, nu=nu)",
        "optax.ScaleByAdamState(count=state.count, mu=mu, nu=nu)",
        "moments corrected as if each step were the first: far too large",
        _rung_1("test_adam"),
    ),
    Mistake(
        "learning rate one step early",
        "optim.py",
        "past = jnp.clip(step - config.decay_start",
        "past = jnp.clip(step + 1 - config.decay_start",
        "the last step has a rate of 0",
        _rung_1("test_linear_schedule"),
    ),
    Mistake(
        "moving average reversed",
        "optim.py",
        "decay * a + (1 - decay) * p",
        "(1 - decay) * a + decay * p",
        "the average is the generator itself",
        _rung_1("test_moving_average"),
    ),
    # Pixels ------------------------------------------------------------------------------------------------------
    Mistake(
        "pixels over 128",
        "images.py",
        "/ 127.5 - 1",
        "/ 128 - 1",
        "D sees no pixel above 0.992; G's whites are grey",
        _rung_1("test_pixels_to_floats"),
    ),
    Mistake(
        "pixels cut, not rounded",
        "images.py",
        "jnp.round((",
        "jnp.floor((",
        "pictures and metrics half a grey level too dark",
        _rung_1("test_floats_to_pixels"),
    ),
    # The training step -------------------------------------------------------------------------------------------
    Mistake(
        "average taken before the update",
        "update.py",
        "moving_average(state.generator_ema, params, config.ema_decay)",
        "moving_average(state.generator_ema, state.generator.params, config.ema_decay)",
        "the average is a step behind",
        _PLAIN,
    ),
    Mistake(
        "G's statistics frozen in D updates",
        "update.py",
        "state._replace(generator=generator, discriminator=after",
        "state._replace(discriminator=after",
        "running statistics see one pass of G a step, not n_dis + 1",
        _PLAIN,
    ),
    Mistake(
        "G in evaluation mode in D updates",
        "update.py",
        "inputs.d_latents, inputs.d_labels, train=True)",
        "inputs.d_latents, inputs.d_labels, train=False)",
        "D learns other images than G is trained on",
        _PLAIN,
    ),
    Mistake(
        "u and v frozen in G updates",
        "update.py",
        "discriminator=discriminator,",
        "discriminator=state.discriminator,",
        "an iteration a step is lost",
        _PLAIN,
    ),
    Mistake(
        "no gradient from D to G",
        "update.py",
        "networks.discriminator.apply(state.discriminator, fake, inputs.g_labels",
        "networks.discriminator.apply(state.discriminator, lax.stop_gradient(fake), inputs.g_labels",
        "G never learns",
        _PLAIN,
    ),
    Mistake(
        "D's gradient into G",
        "update.py",
        "state._replace(generator=generator, discriminator=after",
        "state._replace(generator=generator._replace(params=descend(generator.params, jax.grad(lambda g: loss_of("
        "*score_both(config, networks.discriminator, state.discriminator, inputs.real_images, networks.generator."
        "apply(state.generator._replace(params=g), inputs.d_latents, inputs.d_labels, train=True)[0], "
        "inputs.real_labels, inputs.d_labels)[:2]))(state.generator.params), learning_rate("
        "config.generator_optimizer, state.step, config.steps))), discriminator=after",
        "G is trained to help D",
        _PLAIN,
    ),
    Mistake(
        "G's gradient into D",
        "update.py",
        "discriminator=discriminator,",
        "discriminator=discriminator._replace(params=descend(discriminator.params, jax.grad(lambda d: loss_of("
        "networks.discriminator.apply(state.discriminator._replace(params=d), networks.generator.apply("
        "state.generator, inputs.g_latents, inputs.g_labels, train=True)[0], inputs.g_labels, train=True)[0]))("
        "discriminator.params), learning_rate(config.discriminator_optimizer, state.step, config.steps))),",
        "D is trained to help G",
        _PLAIN,
    ),
    Mistake(
        "the same latents in every D update",
        "update.py",
        "inputs._replace(**part))",
        'inputs._replace(**part | {"d_latents": inputs.d_latents[0]}))',
        "D sees one batch of generated images n_dis times",
        _TWO,
    ),
    Mistake(
        "the G update takes a D update's latents",
        "update.py",
        "networks.generator.apply(variables, inputs.g_latents,",
        "networks.generator.apply(variables, inputs.d_latents[0],",
        "G is trained on the images that D has just seen",
        _PLAIN,
    ),
    Mistake(
        "real labels for generated images",
        "update.py",
        "network.apply(variables, fake, fake_labels, train=True)",
        "network.apply(variables, fake, real_labels, train=True)",
        "D judges generated images by another class than they were made for",
        f"{_STEP}[parametrizations.spectral_norm]",
    ),
    Mistake(
        "the first pass of D leaves nothing",
        "update.py",
        "real_scores, variables = network.apply(variables, real",
        "real_scores, _ = network.apply(variables, real",
        "both passes start from the same u and v: one iteration an update, not two",
        _PLAIN,
    ),
    Mistake(
        "halves of the joint batch swapped",
        "update.py",
        "return scores[: len(real)], scores[len(real) :], variables",
        "return scores[len(real) :], scores[: len(real)], variables",
        "D learns to call generated images real",
        _FIRST,
    ),
    Mistake(
        "G takes D's optimiser",
        "update.py",
        "config.generator_optimizer, config, state,",
        "config.discriminator_optimizer, config, state,",
        "G's rate, betas and schedule are D's",
        _TWO,
    ),
    Mistake(
        "learning rate of the next step",
        "update.py",
        "learning_rate(optimizer, state.step, config.steps)",
        "learning_rate(optimizer, state.step + 1, config.steps)",
        "the whole schedule is a step early",
        _TWO,
    ),
    Mistake(
        "the step is not counted",
        "update.py",
        "state._replace(step=state.step + 1)",
        "state._replace(step=state.step)",
        "the rate never falls",
        _PLAIN,
    ),
    # What a step consumes, and a fresh state ---------------------------------------------------------------------
    Mistake(
        "the same latents twice",
        "inputs.py",
        "iter(jax.random.split(jax.random.fold_in(_key(config.seed, _LATENTS), step), 5))",
        "iter([jax.random.fold_in(_key(config.seed, _LATENTS), step)] * 5)",
        "one key for all that is drawn: G is trained on the latents that D has just seen",
        _rung_5("test_no_latent_is_drawn_twice"),
    ),
    Mistake(
        "every step draws the same latents",
        "inputs.py",
        "jax.random.fold_in(_key(config.seed, _LATENTS), step)",
        "_key(config.seed, _LATENTS)",
        "G learns n_dis + 1 batches by heart",
        _rung_5("test_no_latent_is_drawn_twice"),
    ),
    Mistake(
        "every step sees the same images",
        "inputs.py",
        "np.arange(step * count, (step + 1) * count)",
        "np.arange(count)",
        "D learns one batch by heart",
        _rung_5("test_an_epoch_holds_each_image_once_with_its_label"),
    ),
    Mistake(
        "labels of other images",
        "inputs.py",
        "labels = data.labels[rows].astype",
        "labels = data.labels[: len(rows)].astype",
        "D learns that classes mean nothing",
        _rung_5("test_an_epoch_holds_each_image_once_with_its_label"),
    ),
    Mistake(
        "images upside down",
        "inputs.py",
        "images[:, :, ::-1], images)",
        "images[:, ::-1], images)",
        "half of the images of a run with --flip stand on their heads",
        _rung_5("test_a_flip_mirrors_left_to_right"),
    ),
    Mistake(
        "the average starts at zero",
        "state.py",
        "generator_ema=jax.tree.map(jnp.copy, generator.params)",
        "generator_ema=jax.tree.map(jnp.zeros_like, generator.params)",
        "the averaged generator is too small for thousands of steps",
        _rung_5("test_a_fresh_state_is_torch_refs"),
    ),
    Mistake(
        "a run starts at step 1",
        "state.py",
        "step=jnp.zeros((), jnp.int32)",
        "step=jnp.ones((), jnp.int32)",
        "the schedule is a step early, the last step is missing",
        _rung_5("test_a_fresh_state_is_torch_refs"),
    ),
    # Conversion --------------------------------------------------------------------------------------------------
    Mistake(
        "kernels' rows and columns swapped on the way to torch",
        "convert.py",
        "kernel.transpose(3, 2, 0, 1)",
        "kernel.transpose(3, 2, 1, 0)",
        "a converted checkpoint draws smeared images",
        _LAYER,
    ),
    Mistake(
        "images transposed on the way to torch",
        "convert.py",
        "np.moveaxis(images, -1, -3)",
        "np.swapaxes(images, -1, -3)",
        "the other wing trains on images that lie on their sides",
        _CNN_D,
    ),
    Mistake(
        "v in our order in torch's file",
        "convert.py",
        'side = flat.out if last == "u" else',
        'side = flat.out if last in ("u", "v") else',
        "a converted D's sigma is wrong until its v has been renewed",
        _CNN_D,
    ),
    Mistake(
        "Adam's moments swapped in torch's file",
        "convert.py",
        '(("exp_avg", adam.mu), ("exp_avg_sq", adam.nu))',
        '(("exp_avg", adam.nu), ("exp_avg_sq", adam.mu))',
        "a converted run goes on with wrong steps",
        _PLAIN,
    ),
]
