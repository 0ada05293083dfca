"""One page that tells of a run, or of several side by side: options, curves, samples, scores, machine, versions.

Runs of either framework. Those that differ in their seed alone are one curve with a band. The page needs no other file.
A certificate or an evaluation is shown where it lies in the run's folder:
certify RUN --json RUN/certificate.json, evaluate RUN --json RUN/evaluation.json.
"""

from jax_sngan.commands import cli
from jax_sngan.system.files import write_json, write_whole
from jax_sngan.system.invocation import this_command


def main() -> None:
    """Writes the page, prints its name."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="RUN", help="folders of runs of either framework")
    parser.add_output("--out", "the page", ".html", default="report.html")
    parser.add_output("--json", "write what it says there too", ".json")
    arguments = parser.parse()

    from jax_sngan.reports import report  # numpy takes a moment to load

    told = report.read(arguments.workdirs)
    html = report.page(told, this_command())
    write_whole(arguments.out, lambda path: path.write_text(html, encoding="utf-8"))
    if arguments.json:
        write_json(arguments.json, report.to_json(told))
    if arguments.json != "-":
        print(arguments.out)
