"""All checks in their order. What takes time is asked at once, before the first finding."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from sightline.cli.doctor import checks, machine
from sightline.cli.doctor.findings import Finding
from sightline.cli.doctor.self_test import ask_bundled_model, load_parts
from sightline.cli.doctor.torch_process import TorchProcess
from sightline.settings import Settings, cache_dir, hub_endpoints, hubs_are_offline, variables


def examine(settings: Settings, *, self_test: bool) -> Iterator[Finding]:
    """Yield the findings, each as soon as it is known."""
    from sightline.engine.cpus import count_cpus

    is_offline = settings.model.offline or hubs_are_offline()
    proxies = variables(*machine.PROXY_VARIABLES)
    host, port = settings.server.host, settings.server.port
    with TorchProcess() as torch_process, ThreadPoolExecutor() as pool:
        asked_torch = pool.submit(torch_process.ask)
        if self_test:
            pool.submit(load_parts)
        asked_driver = pool.submit(machine.ask_driver)
        asked_hubs = pool.submit(machine.ask_hubs, hub_endpoints(), is_offline=is_offline)
        asked_proxies = pool.submit(machine.dead_proxies, proxies)
        yield checks.check_python(*machine.python_version())
        yield checks.check_memory(machine.ask_memory())
        yield checks.check_disk(machine.ask_disk(cache_dir() / "models"))
        yield checks.check_files(machine.file_limit())
        yield checks.check_threads(count_cpus(), variables(*machine.THREAD_VARIABLES))
        yield checks.check_port(host, port, machine.ask_port(host, port))
        torch, driver = asked_torch.result(), asked_driver.result()
        yield checks.check_torch(torch)
        yield checks.check_driver(torch, driver)
        if torch.error is None:
            yield from checks.check_device(settings.model.device, torch)
            yield checks.check_bfloat16(torch)
            yield checks.check_kernels(torch)
        yield from checks.check_gpu_memory(torch, driver)
        yield from checks.check_proxies(proxies, asked_proxies.result())
        yield from checks.check_hubs(asked_hubs.result())
        if self_test and torch.error is None:
            yield checks.check_self_test(ask_bundled_model(settings, torch_process))
