"""A run's settings in sentences, as a paper's methods section has them: from its config, and nothing else."""

from collections.abc import Sequence

from jax_sngan.config.schema import ModelConfig, OptimizerConfig, TrainConfig

LOSSES = {
    "hinge": "hinge loss",
    "minimax": "minimax loss of Goodfellow et al. (2014)",
    "non_saturating": "non-saturating loss of Goodfellow et al. (2014)",
    "non_saturating_eps": "non-saturating loss with a small number inside its logarithm",
    "wasserstein": "Wasserstein loss (Arjovsky et al. 2017)",
    "least_squares": "least-squares loss (Mao et al. 2017)",
    "relativistic_hinge": "relativistic average hinge loss (Jolicoeur-Martineau 2018)",
    "relativistic_non_saturating": "relativistic average non-saturating loss (Jolicoeur-Martineau 2018)",
}
ARCHITECTURES = {
    "standard_cnn": "standard CNN of Miyato et al. (2018, Table 3)",
    "resnet": "ResNet of Miyato et al. (2018, Table 4)",
    "mlp": "fully connected network",
}
PENALTIES = {
    "gradient_penalty": "a gradient penalty between real and generated images (Gulrajani et al. 2017)",
    "r1": "an R1 penalty on the gradient at real images (Mescheder et al. 2018)",
    "dragan": "a gradient penalty around real images (DRAGAN, Kodali et al. 2017)",
}


def sentences(config: TrainConfig, parameters: Sequence[int] | None, gan: str | None) -> list[str]:
    """The networks, the loss, the optimisers, and how long.

    Args:
      parameters: of G and of D; None: not known.
      gan: what a GAN of the user's own is called: its networks, loss and optimisers are not in the config.
    """
    if gan is not None:
        own = f"The GAN is the user's own, {gan}: what it computes is in its code, and of these options it may use few."
        return [own, _length(config)]
    return [*_networks(config.model, parameters), _loss(config), _optimisers(config), _length(config)]


def _networks(m: ModelConfig, parameters: Sequence[int] | None) -> list[str]:
    counts = ["", ""] if parameters is None else [f", {n:,} parameters" for n in parameters]
    depth = f" with {m.depth} hidden layers" if m.architecture == "mlp" else ""
    seen = "points of the plane" if m.is_points else f"images of {m.image_size} x {m.image_size} x {m.channels}"
    norms = {"batch": "batch normalisation", "layer": "layer normalisation", "none": "no normalisation"}
    conditional = (
        f" It is told one of {m.num_classes} classes by conditional batch normalisation, D by projection."
        if m.num_classes
        else ""
    )
    found = []
    for name, width, norm, drop, count in (
        ("generator", m.generator_width, m.generator_norm, m.generator_dropout, counts[0]),
        ("discriminator", m.discriminator_width, m.discriminator_norm, m.discriminator_dropout, counts[1]),
    ):
        with_norm = norms[norm]
        if (spectral := m.spectral_norm_of(name)) is not None:
            passes = "one power iteration" if spectral.iterations == 1 else f"{spectral.iterations} power iterations"
            with_norm = (f"{with_norm} and " if norm != "none" else "") + f"spectral normalisation ({passes} a pass)"
        dropped = f", dropout {drop:g}" if drop else ""
        does = f"latents of {m.latent_size} normal numbers to {seen}" if name == "generator" else f"{seen} to a score"
        found.append(
            f"The {name} is a {ARCHITECTURES[m.architecture]}{depth} of width {width}, from {does}, with "
            f"{with_norm}{dropped}{count}.{conditional if name == 'generator' else ''}"
        )
    return found


def _loss(config: TrainConfig) -> str:
    text = f"They are trained with the {LOSSES[config.loss]}"
    if config.penalty.kind != "none":
        text += f", {PENALTIES[config.penalty.kind]} of weight {config.penalty.weight:g}"
    if config.weight_clip:
        text += f", D's parameters clipped to ±{config.weight_clip:g}"
    if config.augment.any:
        a = config.augment
        parts = [*(["colour"] * a.colour), *([f"translation {a.translation:g}"] if a.translation else [])]
        parts += [f"cutout {a.cutout:g}"] if a.cutout else []
        text += f", DiffAugment ({', '.join(parts)}; Zhao et al. 2020)"
    if config.flip:
        text += ", real images mirrored with probability 1/2"
    if config.dequantize:
        text += ", uniform noise of one grey level on real pixels"
    return text + "."


def _optimisers(config: TrainConfig) -> str:
    g, d = config.generator_optimizer, config.discriminator_optimizer
    if g == d:
        return f"Both use {_adam(g)}."
    return f"G uses {_adam(g)}; D uses {_adam(d)}."


def _adam(o: OptimizerConfig) -> str:
    falls = {"constant": "", "linear": ", falling linearly to 0", "cosine": ", falling to 0 as a cosine"}[o.schedule]
    since = f" from step {o.decay_start:,} on" if falls and o.decay_start else ""
    return f"Adam with rate {o.learning_rate:g}{falls}{since}, beta1 {o.beta1:g} and beta2 {o.beta2:g}"


def _length(config: TrainConfig) -> str:
    updates = "one D update" if config.n_dis == 1 else f"{config.n_dis} D updates"
    seen = config.steps * config.n_dis * config.batch_size
    average = (
        f" What is drawn and scored is an exponential moving average of the generator's weights, decay "
        f"{config.ema_decay:g}."
        if config.ema_decay
        else ""
    )
    return (
        f"A training step is {updates} and one G update, of batches of {config.batch_size} (G: "
        f"{config.generator_batch}); {config.steps:,} steps, in which D sees {seen:,} real images.{average}"
    )
