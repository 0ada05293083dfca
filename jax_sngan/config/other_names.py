"""What people call options, presets, data elsewhere -> what they are called here; for suggestions in errors."""

_RATES = ("generator_optimizer.learning_rate", "discriminator_optimizer.learning_rate")
_STEPS = ("steps",)
_FOLDER = ("workdir", "out", "grid", "npz")
_WIDTHS = ("model.generator_width", "model.discriminator_width")
_SIZE = ("model.image_size",)
_LATENT = ("model.latent_size",)
_CLASSES = ("model.num_classes", "labels")
_GPUS = ("mesh", "device")
_SHORT = ("model.compute_dtype", "precision")
_SPECTRAL = ("model.spectral_norm.networks", "model.spectral_norm.iterations")
_PENALTY = ("penalty.kind", "penalty.weight")
_COUNT = ("num", "evaluate_num")

OPTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("lr", "learning_rate", "rate", "alpha"), _RATES),
    **dict.fromkeys(("lr_g", "g_lr", "glr", "generator_lr"), _RATES[:1]),
    **dict.fromkeys(("lr_d", "d_lr", "dlr", "discriminator_lr"), _RATES[1:]),
    **dict.fromkeys(("lr_schedule", "scheduler"), ("generator_optimizer.schedule", "discriminator_optimizer.schedule")),
    **dict.fromkeys(("momentum", "b1"), ("generator_optimizer.beta1", "discriminator_optimizer.beta1")),
    "b2": ("generator_optimizer.beta2", "discriminator_optimizer.beta2"),
    **dict.fromkeys(("optimizer", "optim", "adam"), _RATES),
    **dict.fromkeys(("epochs", "epoch", "num_epochs", "n_epochs", "max_epochs", "nepoch", "kimg"), _STEPS),
    **dict.fromkeys(("iterations", "iters", "n_iter", "num_iter", "num_steps", "max_steps", "max_iter"), _STEPS),
    **dict.fromkeys(("size", "img_size", "imgsize", "resolution", "res", "image", "pixels", "crop_size"), _SIZE),
    **dict.fromkeys(("bs", "batch", "batchsize", "batch_gpu"), ("batch_size",)),
    **dict.fromkeys(("dataset", "dataroot", "data_root", "data_path", "images", "input", "folder"), ("data",)),
    **dict.fromkeys(("output", "outdir", "output_dir", "out_dir", "save_dir", "logdir", "log_dir", "dir"), _FOLDER),
    **dict.fromkeys(("gpu", "gpus", "devices", "num_gpus", "cuda", "tpu"), _GPUS),
    **dict.fromkeys(("nz", "z_dim", "zdim", "latent_dim", "noise_dim", "z"), _LATENT),
    **dict.fromkeys(("width", "filters", "hidden", "nf"), _WIDTHS),
    **dict.fromkeys(("ngf", "g_conv_dim"), _WIDTHS[:1]),
    **dict.fromkeys(("ndf", "d_conv_dim"), _WIDTHS[1:]),
    **dict.fromkeys(("nc", "colour", "color", "rgb", "grayscale", "grey", "gray"), ("model.channels",)),
    **dict.fromkeys(("classes", "n_classes", "conditional", "cond"), _CLASSES),
    **dict.fromkeys(("class", "label"), ("labels", "model.num_classes")),
    **dict.fromkeys(("arch", "network", "backbone"), ("model.architecture",)),
    **dict.fromkeys(("fp16", "bf16", "bfloat16", "amp", "half", "mixed_precision"), _SHORT),
    **dict.fromkeys(("sn", "spectral", "spectral_norm", "use_sn"), _SPECTRAL),
    **dict.fromkeys(("gp", "lambda", "lambda_gp", "gp_weight", "gradient_penalty", "r1", "gamma"), _PENALTY),
    **dict.fromkeys(("n_critic", "critic_iters", "d_steps", "num_d_steps", "ncritic"), ("n_dis",)),
    **dict.fromkeys(("clip", "clip_value"), ("weight_clip",)),
    **dict.fromkeys(("ema", "ema_beta"), ("ema_decay",)),
    **dict.fromkeys(("workers", "num_workers", "n_workers"), ("stream_workers",)),
    **dict.fromkeys(("save_every", "save_interval", "save_freq", "snap"), ("checkpoint_every",)),
    **dict.fromkeys(("eval_every", "eval_interval", "eval"), ("evaluate_every",)),
    **dict.fromkeys(("log_interval", "print_every", "display_freq"), ("log_every",)),
    **dict.fromkeys(("continue", "restart", "from_checkpoint", "load"), ("resume",)),
    **dict.fromkeys(("mirror", "hflip", "random_flip"), ("flip",)),
    **dict.fromkeys(("aug", "diffaug", "augmentation"), ("augment.colour", "augment.translation", "augment.cutout")),
    **dict.fromkeys(("n", "count", "number", "num_samples", "n_samples", "num_images", "samples"), _COUNT),
    **dict.fromkeys(("metric", "fid"), ("metrics", "evaluate_metrics")),
    **dict.fromkeys(("random_seed", "manual_seed", "manualseed"), ("seed",)),
    **dict.fromkeys(("config", "cfg", "preset", "presets", "list", "models"), ("help presets",)),
    **dict.fromkeys(("checkpoint", "ckpt"), ("step", "resume")),
    **dict.fromkeys(("psi", "trunc"), ("truncation",)),
}
PRESETS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("cifar", "cifar10", "cifar_10"), ("cifar10_cnn", "cifar10_resnet", "cifar10_projection")),
    **dict.fromkeys(("cifar100", "cifar_100"), ("cifar100_projection",)),
    **dict.fromkeys(("mnist", "fashion_mnist", "fashionmnist", "garments", "default"), ("fashion",)),
    **dict.fromkeys(("resnet", "cnn"), ("cifar10_resnet", "cifar10_cnn")),
    **dict.fromkeys(("wgangp", "gp"), ("wgan_gp",)),
    **dict.fromkeys(("celeba", "celeb_a", "faces"), ("celeba64",)),
    **dict.fromkeys(("imagenet", "ilsvrc"), ("imagenet128_projection",)),
    **dict.fromkeys(("lsun", "bedroom"), ("lsun128",)),
    **dict.fromkeys(("stl", "stl10", "stl_10"), ("stl10_resnet",)),
    **dict.fromkeys(("spectral_norm", "sn_gan"), ("sngan",)),
    **dict.fromkeys(("grid", "ring", "gaussians", "toy", "mlp"), ("points",)),
}
DATA: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("cifar", "cifar_10"), ("cifar10", "cifar100")),
    "cifar_100": ("cifar100",),
    **dict.fromkeys(("fashionmnist", "fmnist", "garments"), ("fashion_mnist", "fashion")),
    **dict.fromkeys(("stackedmnist", "stacked"), ("stacked_mnist", "stacked_fashion")),
    **dict.fromkeys(("gaussians", "points", "mixture"), ("grid", "ring")),
    **dict.fromkeys(("digits", "emnist"), ("mnist",)),
}
TARGETS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("tpu", "google"), ("v5e:2x2", "v5p:2x2x1", "v6e:2x2")),
    **dict.fromkeys(("gpu", "cuda", "nvidia"), ("a100", "h100", "h200")),
    **dict.fromkeys(("v5", "v5lite", "v5litepod"), ("v5e:2x2",)),
    **dict.fromkeys(("trillium", "v6"), ("v6e:2x2",)),
    **dict.fromkeys(("hopper", "gh200"), ("h100", "h200")),
    "ampere": ("a100",),
}
METRICS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("frechet", "fd", "fid", "fcd"), ("fid", "fcd", "fd")),
    **dict.fromkeys(("kernel", "mmd", "kid", "kcd", "kd"), ("kid", "kcd", "kd")),
    **dict.fromkeys(("inception_score", "inception", "score", "is", "cs"), ("is", "cs", "score")),
    **dict.fromkeys(("modes", "diversity"), ("classes", "coverage", "recall")),
    **dict.fromkeys(("prdc", "pr"), ("precision", "recall", "density")),
    **dict.fromkeys(("ppl", "smoothness"), ("path_length",)),
    **dict.fromkeys(("memorisation", "memorization", "nn"), ("nearest",)),
}
