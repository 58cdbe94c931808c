"""`sightline fit`: the arithmetic and the verdict, and what starts only if it fits."""

import json

import pytest


def fit(sightline, *arguments):
    return json.loads(sightline("fit", *arguments, "--json").out)


def test_a_24_gb_machine_is_told_why_not_bf16_and_what_to_do(sightline):
    outcome = sightline("fit", "glm-4v-9b", "--memory", "20GB", "--device", "cpu")
    assert outcome.status == 1
    lines = outcome.out.splitlines()
    assert any(line.startswith("Weights") and "27.81 GB" in line for line in lines)
    assert any("8,192 tokens x 1 at once x 40.96 kB" in line for line in lines)
    assert any(line.startswith("It does not fit:") for line in lines)
    assert any(
        line.startswith("Why: the weights in bfloat16 alone take 27.81 GB") for line in lines
    )
    assert any(line.startswith("What fits: int8") and "sightline serve" in line for line in lines)


def test_what_is_advised_fits(sightline):
    report = fit(sightline, "glm-4v-9b", "--memory", "24GB", "--device", "cuda")
    assert report["verdict"] == "does not fit"
    assert report["best"]["verdict"] == "fits"
    assert report["best"]["command"] == "sightline serve glm-4v-9b:int8"
    again = fit(sightline, "glm-4v-9b", "--int8", "--memory", "24GB", "--device", "cuda")
    assert again["verdict"] == "fits"
    assert again["needed"] == report["best"]["needed"]


def test_every_number_of_the_report_is_a_plain_value(sightline):
    report = fit(
        sightline, "glm-4v-9b", "--memory", "80GB", "--device", "cuda", "--concurrency", "8"
    )
    assert report["kv"] == 8 * 8192 * report["kv_per_token"]
    assert report["kv_per_image"] == 1602 * 40960
    assert report["weights"] == sum(report["parts"].values()) == 2 * 13_906_320_896
    assert [way["verdict"] for way in report["ways"]] == ["fits"] * 5


def test_this_machine_is_asked_without_a_memory(sightline):
    outcome = sightline("fit")
    assert outcome.status == 0, outcome.out
    assert "free of" in outcome.out
    assert "It fits" in outcome.out


def test_it_speaks_chinese(sightline):
    outcome = sightline("--lang", "zh", "fit", "glm-4v-9b", "--memory", "20GB", "--device", "cpu")
    assert "放不下：还差" in outcome.out
    assert "可行的办法" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("glm-4v-9b", "--int8", "--int4"), "not both"),
        (("glm-4v-9b", "--memory", "much"), "not a size"),
        (("glm-4v-9b", "--device", "cuda:77"), "There is no device cuda:77"),
        (("nothing-9b",), "There is no model folder nothing-9b"),
        (("glm-4v-9b", "--context", "0"), "--context"),
    ],
)
def test_what_cannot_be_judged_is_refused(arguments, told, sightline):
    outcome = sightline("fit", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert told in outcome.err
