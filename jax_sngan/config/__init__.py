"""What a run may be asked for: the options, the presets, other programs' settings. Loads no jax."""
