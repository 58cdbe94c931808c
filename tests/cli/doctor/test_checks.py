"""Every check against machines that are made up."""

import re
from pathlib import Path

import pytest

from sightline.cli import catalogue
from sightline.cli.doctor import checks
from sightline.cli.doctor.findings import Finding
from sightline.cli.doctor.machine import (
    CpuKernels,
    Disk,
    Driver,
    Gpu,
    HubAnswer,
    Memory,
    SelfTest,
    Torch,
    ask_disk,
)
from sightline.cli.doctor.ports import PortOwner

GB = 10**9
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "compute_90")


def card(name: str = "RTX 4090", capability: tuple[int, int] = (8, 9), free: int = 23) -> Gpu:
    return Gpu(name=name, capability=capability, free=free * GB, total=24 * GB)


def torch_for(cuda: str | None = "12.6", *gpus: Gpu, error: str | None = None) -> Torch:
    return Torch(
        version="2.9.1+cu126",
        cuda=cuda,
        gpus=gpus,
        architectures=ARCHITECTURES,
        cuda_error=error,
    )


def driver(version: str = "560.35", *holders: str) -> Driver:
    return Driver(version=version, gpus=("RTX 4090",), holders=holders)


def with_kernels(state: str, kind: str = "avx512", problem: str = "", *gpus: Gpu) -> Torch:
    found = CpuKernels(state=state, kind=kind, problem=problem)
    return Torch(kernels=found, gpus=gpus)


CPU = Torch(version="2.9.1+cpu")
NO_TORCH = Torch(error="ImportError: libcudart.so.12")


@pytest.mark.parametrize(
    ("finding", "level", "says", "remedy"),
    [
        (checks.check_python((3, 12, 1), 64), "ok", "3.12.1", None),
        (checks.check_python((3, 10, 9), 64), "broken", "needs 3.11", "Python 3.12"),
        (checks.check_python((3, 12, 1), 32), "broken", "32 bits", "Python 3.12"),
        (checks.check_torch(CPU), "ok", "2.9.1+cpu (CPU build)", None),
        (checks.check_torch(NO_TORCH), "broken", "libcudart", "--force-reinstall torch"),
        (
            checks.check_torch(Torch(error="no answer within 180 s", is_silent=True)),
            "warning",
            "very busy",
            "importtime",
        ),
        (checks.check_torch(Torch(version="2.5.1")), "broken", "too old", "--upgrade torch"),
        (checks.check_torch(Torch(version="2.10.0a0+git1")), "ok", "2.10.0a0", None),
        # The driver, and the build of torch.
        (checks.check_driver(CPU, None), "note", "no NVIDIA driver", None),
        (checks.check_driver(torch_for("12.6", card()), driver()), "ok", "CUDA 12.6", None),
        (checks.check_driver(CPU, driver()), "warning", "build for processors", "whl/cu126"),
        (
            checks.check_driver(Torch(version="2.9", hip="6.4"), driver()),
            "warning",
            "ROCm 6.4",
            "cu126",
        ),
        (checks.check_driver(torch_for("13.0"), driver("570.1")), "broken", "580", "older build"),
        (checks.check_driver(torch_for("12.6"), driver("470.2")), "broken", "525", "update"),
        (
            checks.check_driver(torch_for("12.6", error="CUDA unknown error"), driver()),
            "broken",
            "CUDA unknown error",
            "CUDA_VISIBLE_DEVICES",
        ),
        (
            checks.check_driver(torch_for("13.0", card("GTX 1080", (6, 1))), driver("580.1")),
            "broken",
            "no code for GTX 1080",
            "cu126",
        ),
        (
            checks.check_driver(torch_for("12.6", card("B200", (10, 0))), driver()),
            "ok",
            "12.6",
            None,
        ),
        (checks.check_driver(NO_TORCH, driver()), "note", "mended first", None),
        (checks.check_driver(torch_for("12.6", card()), None), "ok", "PyTorch uses it", None),
        (
            checks.check_driver(torch_for("12.6"), Driver(problem="version mismatch")),
            "warning",
            "no GPU (version mismatch)",
            "restart the machine",
        ),
        (
            checks.check_driver(torch_for("12.6", card()), Driver(problem="not found")),
            "ok",
            "PyTorch uses it",
            None,
        ),
        # bfloat16
        (checks.check_bfloat16(CPU), "ok", "processor computes in it", None),
        (checks.check_bfloat16(Torch(has_bfloat16=False)), "note", "float32", None),
        (checks.check_bfloat16(torch_for("12.6", card())), "ok", "GPU computes in it", None),
        (checks.check_bfloat16(torch_for("12.6", card("T4", (7, 5)))), "note", "T4", None),
        # our own kernels
        (checks.check_kernels(with_kernels("ours", "avx2")), "ok", "for AVX2", None),
        (checks.check_kernels(with_kernels("ours")), "ok", "for AVX-512", None),
        (
            checks.check_kernels(with_kernels("ours", "avx512vnni")),
            "ok",
            "our own, for AVX-512 with int8 products",
            None,
        ),
        (
            checks.check_kernels(with_kernels("ours", "avx512bf16")),
            "ok",
            "our own, for AVX-512 with bfloat16 and int8 products",
            None,
        ),
        (checks.check_kernels(with_kernels("foreign", "")), "note", "made for Linux", None),
        (
            checks.check_kernels(with_kernels("not_compiled")),
            "warning",
            "not compiled; PyTorch's do the same, slower",
            "sudo apt install gcc",
        ),
        (
            checks.check_kernels(with_kernels("not_compiled", "avx2", "", card())),
            "note",
            "not compiled",
            "python hatch_build.py",
        ),
        (
            checks.check_kernels(with_kernels("unusable", "avx2", "undefined symbol: GOMP_x")),
            "warning",
            "(undefined symbol: GOMP_x)",
            "--force-reinstall torch",
        ),
        # memory, disk
        (checks.check_memory(Memory(free=20 * GB, total=32 * GB)), "ok", "20.0 of 32.0 GB", None),
        (checks.check_memory(Memory(free=GB // 2, total=8 * GB)), "broken", "0.5", "--memory"),
        (checks.check_memory(Memory(free=0, total=0)), "note", "cannot be told", None),
        (checks.check_disk(Disk(folder="/c", free=99 * GB, is_writable=True)), "ok", "99.0", None),
        (
            checks.check_disk(Disk(folder="/c", free=9 * GB, is_writable=True)),
            "note",
            "27.8 GB",
            "--into",
        ),
        (
            checks.check_disk(Disk(folder="/c", free=99 * GB, is_writable=False)),
            "broken",
            "/c cannot be written",
            "XDG_CACHE_HOME",
        ),
        # network
        (
            checks.check_hub(HubAnswer(hub="huggingface", url="u", seconds=0.2)),
            "ok",
            "200 ms",
            None,
        ),
        (
            checks.check_hub(HubAnswer(hub="huggingface", url="u", problem="timed out")),
            "note",
            "timed out",
            "HF_ENDPOINT",
        ),
        (
            checks.check_hub(HubAnswer(hub="modelscope", url="u", problem="refused")),
            "note",
            "refused",
            "HTTPS_PROXY",
        ),
        (
            checks.check_hub(HubAnswer(hub="modelscope", url="u", is_offline=True)),
            "note",
            "offline",
            None,
        ),
        # the port
        (checks.check_port("127.0.0.1", 8888, None), "ok", "is free", None),
        (
            checks.check_port("127.0.0.1", 8888, PortOwner(pid=7, command="jupyter-lab")),
            "broken",
            "jupyter-lab (pid 7)",
            "--port 8889, or end that program: kill 7",
        ),
        (
            checks.check_port(
                "127.0.0.1", 8888, PortOwner(pid=7, command="python sightline serve")
            ),
            "ok",
            "sightline listens on 8888 already",
            None,
        ),
        (checks.check_port("127.0.0.1", 80, PortOwner()), "broken", "another user", "--port 81"),
        (
            checks.check_port("127.0.0.1", 80, PortOwner(hindrance="forbidden")),
            "broken",
            "80 may not be opened by this user",
            "--port 8888",
        ),
        (
            checks.check_port("9.9.9.9", 80, PortOwner(hindrance="elsewhere")),
            "broken",
            "9.9.9.9 is not an address of this machine",
            "--host 127.0.0.1 --port 80",
        ),
        (checks.check_port("127.0.0.1", 65535, PortOwner()), "broken", "65535", "--port 65534"),
        # limits
        (checks.check_files(None), "ok", "any number", None),
        (checks.check_files(65536), "ok", "65536", None),
        (checks.check_files(256), "warning", "256", "ulimit -n 65536"),
        (checks.check_threads(8, {}), "ok", "8 cores", None),
        (checks.check_threads(8, {"OMP_NUM_THREADS": "8"}), "ok", "8 cores", None),
        (checks.check_threads(2, {"OMP_NUM_THREADS": "64"}), "warning", "64", "unset OMP"),
        (checks.check_threads(8, {"OMP_NUM_THREADS": "1"}), "note", "--threads 8", None),
        (checks.check_threads(8, {"OMP_NUM_THREADS": "8,2"}), "ok", "8 cores", None),
        (
            checks.check_threads(8, {"MKL_NUM_THREADS": "all"}),
            "warning",
            "not a number",
            "unset MKL",
        ),
        # the self-test
        (
            checks.check_self_test(
                SelfTest(expected=("red", "circle"), answer="This is a red circle.", seconds=1.9)
            ),
            "ok",
            "1.9 s",
            None,
        ),
        (
            checks.check_self_test(SelfTest(expected=("red", "circle"), answer="A blue square.")),
            "broken",
            "A blue square.",
            "doctor --json",
        ),
        (
            checks.check_self_test(SelfTest(problem="The engine ended.")),
            "broken",
            "The engine ended.",
            "--device cpu",
        ),
    ],
)
def test_what_is_found_and_what_to_do(
    finding: Finding, level: str, says: str, remedy: str | None
) -> None:
    assert finding.level == level
    assert says in finding.message
    assert (finding.fix is None) if remedy is None else (remedy in (finding.fix or ""))
    assert finding.level not in ("broken", "warning") or finding.fix


def test_where_no_hub_can_be_reached_none_is_recommended() -> None:
    answers = [
        HubAnswer(hub="huggingface", url="u", problem="timed out"),
        HubAnswer(hub="modelscope", url="u", problem="timed out"),
    ]
    for finding in checks.check_hubs(answers):
        assert "timed out" in finding.message
        assert "will do" not in (finding.fix or "")
        assert "ENDPOINT" in (finding.fix or "")
    one, other = checks.check_hubs([answers[0], HubAnswer(hub="modelscope", url="u", seconds=0.1)])
    assert "ModelScope will do" in (one.fix or "")
    assert other.level == "ok"


def test_gpu_memory_that_others_hold_is_a_warning_with_their_names() -> None:
    machine = torch_for("12.6", card(), card("RTX 3090", free=3))
    first, second = checks.check_gpu_memory(machine, driver("560", "python (4242): 20000 MiB"))
    assert (first.level, second.level) == ("ok", "warning")
    assert "python (4242)" in second.message
    assert "GPU 1 (RTX 3090): only 3.0 of 24.0 GB" in second.message


@pytest.mark.parametrize(
    ("name", "cards", "says"),
    [
        ("cuda", 0, "no device cuda; PyTorch sees none"),
        ("cuda:1", 1, "no device cuda:1; PyTorch sees cuda:0"),
        ("cuda:x", 2, "no device cuda:x; PyTorch sees cuda:0, cuda:1"),
        ("gpu", 1, "no device gpu;"),
    ],
)
def test_a_device_that_is_not_there_is_said_without_the_self_test(
    name: str, cards: int, says: str
) -> None:
    [finding] = checks.check_device(name, torch_for("12.6", *[card()] * cards))
    assert (finding.level, says in finding.message) == ("broken", True)
    assert "--device cpu" in (finding.fix or "")


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:1"])
def test_a_device_that_is_there_is_no_finding(name: str) -> None:
    assert checks.check_device(name, torch_for("12.6", card(), card())) == []


def test_a_proxy_that_would_swallow_questions_to_this_machine_is_found() -> None:
    proxies = {"HTTP_PROXY": "http://user:secret@proxy.example:3128"}
    works, local = checks.check_proxies(proxies, [])
    assert works.message == "HTTP_PROXY: proxy.example:3128 takes connections"
    assert (local.level, "NO_PROXY=localhost" in (local.fix or "")) == ("warning", True)
    spared = checks.check_proxies(proxies | {"no_proxy": "example.com, localhost"}, [])
    assert [finding.level for finding in spared] == ["ok"]


def test_a_proxy_that_is_down_is_a_warning() -> None:
    [dead] = checks.check_proxies({"https_proxy": "socks5://10.0.0.1:1080"}, ["https_proxy"])
    assert (dead.level, dead.fix) == ("warning", "start the proxy, or `unset https_proxy`")
    assert [f.code for f in checks.check_proxies({}, [])] == ["proxies.none"]


@pytest.mark.parametrize("url", ["garbage::://x", "http://", "http://p:wrong", ":3128"])
def test_what_is_no_address_of_a_proxy_is_said(url: str) -> None:
    finding, *_ = checks.check_proxies({"HTTPS_PROXY": url}, ["HTTPS_PROXY"])
    assert (finding.level, finding.message) == (
        "warning",
        "HTTPS_PROXY is no address of a proxy, like http://host:3128",
    )


def test_no_secret_of_a_proxy_is_told() -> None:
    for url in ("http://user:secret@p:1", "user:secret@p:1", "http://user:secret@p:wrong"):
        [finding, *_] = checks.check_proxies({"HTTPS_PROXY": url}, [])
        assert "secret" not in finding.message + str(finding.as_json)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_finding_can_be_said_in_both_languages(language, monkeypatch) -> None:
    monkeypatch.setattr("sightline.cli.catalogue._language", language)
    source = Path(checks.__file__).read_text()
    codes = set(re.findall(r'"((?:[a-z_0-9]+)\.[a-z_]+)"', source))
    assert len(codes) > 30
    for code in codes:
        english, chinese = catalogue.TEXTS[f"doctor.{code}"]
        names = [sorted(set(re.findall(r"{(\w+)}", text))) for text in (english, chinese)]
        assert names[0] == names[1], code


def test_a_cache_that_is_a_link_to_nothing_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to(tmp_path / "unmounted")
    disk = ask_disk(tmp_path / "cache" / "sightline" / "models")
    assert not disk.is_writable
    assert checks.check_disk(disk).code == "disk.locked"
    assert ask_disk(tmp_path / "to" / "come").is_writable
