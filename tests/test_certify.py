"""scripts/certify.py on a run."""

import json


def test_the_certificate_of_a_run(script, tiny_run, tmp_path):
    outcome = script("certify.py", tiny_run, "--num=8", "--ascent=3", "--json", tmp_path / "c.json")
    assert outcome.code == 0, outcome
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["step"] == 6
    assert 0 < found["lower"] <= found["upper"]
    assert [layer["name"] for layer in found["layers"]] == [*(f"convs.{i}" for i in range(5)), "score"]
    assert sum(found["counts"]["real"]) == 8
    assert f"{found['lower']:.4g} <= Lipschitz constant <= {found['upper']:.4g}" in outcome.out


def test_what_is_wrong_is_named(script, tiny_run):
    assert script("certify.py", tiny_run, "--num=1").is_one_line("num", "at least 2", "1")
    assert script("certify.py", tiny_run, "--ascent=-1").is_one_line("ascent", "at least 0", "-1")
    assert script("certify.py", tiny_run, "--seed=-1").is_one_line("seed must be from 0", "-1")
    assert script("certify.py", tiny_run, "--step=5").is_one_line("5")
