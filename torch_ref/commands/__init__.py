"""The commands of the reference: each file reads one line, in the words of jax_sngan/commands/."""
