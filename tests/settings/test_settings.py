import dataclasses
from pathlib import Path

import pytest

from sightline.core.errors import StartupError
from sightline.core.limits import Limits
from sightline.settings import Settings, language, parse_size, resolve, rows, visible_gpus


def settings_from(
    text: str | None, tmp_path: Path, *, environ: dict[str, str] | None = None, **flags: object
) -> Settings:
    config = None
    if text is not None:
        config = tmp_path / "sightline.toml"
        config.write_text(text, "utf-8")
    return resolve(flags, config=config, environ=environ or {})


def test_without_anything_every_value_is_the_default():
    settings = resolve(environ={})
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8888)
    assert settings.limits == Limits()
    assert all(settings.origin(name) == "default" for name in rows())


def test_flag_beats_environment_beats_file_beats_default(tmp_path):
    text = "[server]\nport = 1\n[limits]\nmax_images = 2\nmax_parts = 3\n"
    environ = {"SIGHTLINE_PORT": "4", "SIGHTLINE_MAX_IMAGES": "5"}
    settings = settings_from(text, tmp_path, environ=environ, port="6")
    assert settings.server.port == 6
    assert settings.limits.max_images == 5
    assert settings.limits.max_parts == 3
    assert settings.origin("port") == "flag --port"
    assert settings.origin("max_images") == "environment SIGHTLINE_MAX_IMAGES"
    assert settings.origin("max_parts") == f"file {tmp_path / 'sightline.toml'}"


def test_an_unset_flag_does_not_hide_the_environment():
    assert resolve({"port": None}, environ={"SIGHTLINE_PORT": "4"}).server.port == 4


def test_the_file_of_the_current_folder_is_read(tmp_path, monkeypatch):
    (tmp_path / "sightline.toml").write_text("[server]\nport = 7\n")
    monkeypatch.chdir(tmp_path)
    assert resolve(environ={}).server.port == 7


def test_the_environment_may_name_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[server]\nport = 7\n")
    assert resolve(environ={"SIGHTLINE_CONFIG": str(path)}).server.port == 7


def test_lists_are_comma_separated_in_the_environment(tmp_path):
    environ = {"SIGHTLINE_API_KEY": "one, two,"}
    assert resolve(environ=environ).server.api_key == ("one", "two")
    settings = settings_from('[server]\napi_key = ["a,b"]\n', tmp_path)
    assert settings.server.api_key == ("a,b",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1\n", "did you mean port"),
        ("[sever]\nport = 1\n", "no table [sever]"),
        ("[limits]\nport = 1\n", "limits.port"),
        ("port = 1\n", "no table [port]"),
        ("[server]\nport = true\n", "not a whole number"),
        ("[server]\nport = 1.5\n", "not a whole number"),
        ("[server]\nport = 65536\n", "0 to 65535"),
        ("[server]\nport = \n", "not valid TOML"),
        ("[server]\nstrict = 1\n", "not true or false"),
        ("[server]\nhost = 4\n", "not a text"),
        ("[server]\napi_key = [1]\n", "not a list of texts"),
        ('[model]\nengine = "magic"\n', "one of process, inline, fake"),
        (
            '[model]\nwithout_kernels = ["own", "old"]\n',
            "'own, old' is not a list out of own, attention",
        ),
        ("[limits]\nmax_images = -1\n", "at least 0"),
        ("[limits]\nmax_running = 0\n", "at least 1"),
        ("[limits]\nqueue_timeout_s = nan\n", "not a number"),
        ('[client]\nurl = "http://elsewhere"\n', "cannot be set in a file"),
    ],
)
def test_a_bad_file_is_refused_with_a_reason(text, message, tmp_path):
    with pytest.raises(StartupError) as caught:
        settings_from(text, tmp_path)
    assert message in caught.value.message


def test_kernels_are_named_by_any_means(tmp_path):
    table = '[model]\nwithout_kernels = ["own", "graphs"]\n'
    assert settings_from(table, tmp_path).model.without_kernels == ("own", "graphs")
    environ = {"SIGHTLINE_WITHOUT_KERNELS": "own, graphs"}
    assert resolve(environ=environ).model.without_kernels == ("own", "graphs")
    assert resolve({"without_kernels": ["own"]}, environ={}).model.without_kernels == ("own",)


def test_an_unknown_variable_is_refused():
    with pytest.raises(StartupError, match="SIGHTLINE_PROT; did you mean port"):
        resolve(environ={"SIGHTLINE_PROT": "1"})


def test_what_the_installation_reads_may_stay_in_the_environment():
    assert resolve(environ={"SIGHTLINE_KERNELS": "0"}) == resolve(environ={})


def test_an_empty_variable_is_an_unset_one():
    assert resolve(environ={"SIGHTLINE_PORT": ""}).server.port == 8888


def test_a_refused_secret_is_not_quoted(tmp_path):
    with pytest.raises(StartupError) as caught:
        settings_from("[server]\napi_key = 123456\n", tmp_path)
    assert "123456" not in caught.value.message


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(StartupError, match="Cannot read the settings file"):
        resolve(config=tmp_path / "none.toml", environ={})


@pytest.mark.parametrize(
    ("flag", "environ", "expected"),
    [
        ("zh", {"LANG": "en_US.UTF-8"}, "zh"),
        (None, {"SIGHTLINE_LANG": "zh", "LANG": "en_US.UTF-8"}, "zh"),
        (None, {"LANG": "zh_CN.UTF-8"}, "zh"),
        (None, {"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        (None, {}, "en"),
    ],
)
def test_language_follows_flag_then_variable_then_locale(flag, environ, expected):
    assert language(flag, environ) == expected


def test_every_limit_is_a_setting():
    limits = {field.name for field in dataclasses.fields(Limits)}
    assert limits == {row.name for row in rows().values() if row.section == "limits"}


def test_names_are_unique_over_the_tree():
    groups = [getattr(Settings(), section) for section in ("server", "model", "media", "client")]
    fields = [field.name for group in (*groups, Limits()) for field in dataclasses.fields(group)]
    assert len(fields) == len(set(fields))


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("24GB", 24 * 10**9),
        ("24 GiB", 24 * 2**30),
        ("512 MiB", 2**29),
        ("1.5gb", 1_500_000_000),
        ("0.5G", 2**29),
        ("64k", 65536),
        ("64kB", 64_000),
        ("2TB", 2 * 10**12),
        (" 1000 ", 1000),
        ("much", None),
        ("1.5", None),
        ("-1GB", None),
        ("24 GBs", None),
        ("٢٤", None),
        ("9" * 400 + "G", None),
    ],
)
def test_sizes_are_written_as_people_write_them(text, num_bytes):
    assert parse_size(text) == num_bytes


def test_hiding_every_gpu_is_not_the_same_as_hiding_none():
    assert visible_gpus({}) is None
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == ""


def test_a_share_of_a_gpu_is_at_most_the_whole(tmp_path):
    settings = settings_from("[model]\ngpu_memory_utilization = 0.5\n", tmp_path)
    assert settings.model.gpu_memory_utilization == 0.5
    with pytest.raises(StartupError, match="out of range"):
        settings_from(None, tmp_path, gpu_memory_utilization="1.5")
