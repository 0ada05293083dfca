"""`sngan plot-runs` from a checkout: learning curves of runs, seeds as a band."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("plot-runs")
