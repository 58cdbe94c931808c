import tomllib

import sightline as package


def test_version_names_what_a_report_needs(sightline):
    lines = dict(line.split(maxsplit=1) for line in sightline("version").out.splitlines())
    assert lines["sightline"] == package.__version__
    assert set(lines) == {"sightline", "torch", "python", "platform"}


def test_version_flag_is_one_line(sightline):
    assert sightline("--version").out == f"sightline {package.__version__}\n"


def test_config_shows_values_and_where_they_came_from(sightline):
    (sightline.folder / "sightline.toml").write_text("[limits]\nmax_images = 3\n")
    lines = sightline("config", SIGHTLINE_PORT="9000").out.splitlines()
    found = {line.split(" = ")[0]: line.split("# ")[-1] for line in lines if " = " in line}
    assert found["port"] == "environment SIGHTLINE_PORT"
    assert found["max_images"] == "file sightline.toml"
    assert found["host"] == "default"


def test_config_never_shows_a_key(sightline):
    outcome = sightline("config", SIGHTLINE_API_KEY="sl-secret")
    assert "sl-secret" not in outcome.out + outcome.err
    assert 'api_key = ["***"]' in outcome.out


def test_config_prints_a_valid_file(sightline):
    shown = tomllib.loads(sightline("config").out)
    assert shown["server"]["port"] == 8888
    del shown["client"]
    (sightline.folder / "sightline.toml").write_text(sightline("config").out.split("[client]")[0])
    assert sightline("config").status == 0


def test_a_bad_setting_is_one_line_and_status_2(sightline):
    outcome = sightline("config", SIGHTLINE_PROT="9000")
    assert outcome.status == 2
    assert outcome.err == (
        "sightline: Unknown environment variable SIGHTLINE_PROT; did you mean port?\n"
    )
    assert sightline("--lang", "zh", "config", SIGHTLINE_PROT="1").err.startswith(
        "sightline: 配置有误"
    )
