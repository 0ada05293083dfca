"""How steep a run's discriminator is: each layer's norms, a bound from above, the steepest gradient found."""

from jax_sngan.commands import cli
from jax_sngan.system.files import write_json


def main() -> None:
    """Prints the certificate."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="folder of a run")
    parser.add_step()
    parser.add_argument("--num", type=int, default=256, metavar="N", help="images of each kind (default 256)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the images (default 0)")
    parser.add_argument("--ascent", type=int, default=50, metavar="N", help="steps of the search upwards (default 50)")
    parser.add_argument("--real", metavar="SOURCE", help="the real images, as --data of `train` (default: the run's)")
    parser.add_argument("--data-dir", metavar="FOLDER", help="folder that holds the data set's original files")
    parser.add_output("--json", "write the certificate there", ".json")
    arguments = parser.parse()

    from jax_sngan.lipschitz.run import certify_run, table  # jax takes a second to load

    step, found = certify_run(
        arguments.workdir,
        step=arguments.step,
        num=arguments.num,
        seed=arguments.seed,
        ascent=arguments.ascent,
        real=arguments.real,
        data_dir=arguments.data_dir,
    )
    if arguments.json != "-":
        print(table(step, found))
    if arguments.json:
        write_json(arguments.json, {"step": step, **found.to_dict()})
