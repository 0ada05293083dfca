"""`python -m jax_sngan COMMAND …`, the same as `sngan COMMAND …`."""

from jax_sngan.commands.sngan import main

if __name__ == "__main__":
    main()
