"""The fuzzers guided by which lines a file reaches, where atheris is installed (pip install atheris; Linux).

python tests/fuzz_coverage.py READER EXAMPLES
"""

import os
import sys

import atheris

with atheris.instrument_imports(include=["jax_sngan"]):
    from fuzz import limited, report


def main() -> None:
    """Each input is a file whose first byte says in which of the sound files' place it stands."""
    reader, examples = sys.argv[1], int(sys.argv[2])
    with limited(reader) as fuzz:
        corpus = fuzz.folder / "corpus"
        corpus.mkdir()
        for number, (_, contents) in enumerate(fuzz.files):
            (corpus / str(number)).write_bytes(bytes([number]) + contents)
        fuzz.counts.clear()

        def one(contents: bytes) -> None:
            if contents:
                fuzz.bytes(fuzz.files[contents[0] % len(fuzz.files)][0], contents[1:])
            if fuzz.counts.total() >= examples:
                report(fuzz)
                sys.stdout.flush()
                os._exit(0)  # libFuzzer has no other end

        atheris.Setup([sys.argv[0], "-seed=1", "-max_len=200000", "-len_control=0", str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
