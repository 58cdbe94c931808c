"""What `sightline doctor` says, English and Chinese; part of the command line's catalogue."""

TEXTS: dict[str, tuple[str, str]] = {
    "doctor.help": (
        "Examine this machine: Python, PyTorch and driver, memory, disk, network, port, and a "
        "question to the bundled model. Says what is wrong and how to mend it.",
        "检查本机：Python、PyTorch 与驱动、内存、磁盘、网络、端口，并向内置模型提一个问题；"
        "指出问题和解决办法。",
    ),
    "doctor.json": ("Print the findings as JSON.", "以 JSON 输出检查结果。"),
    "doctor.self_test": (
        "Start the bundled model and ask it about a picture.",
        "启动内置模型并就一张图片提问。",
    ),
    "doctor.remedy": ("->", "->"),
    "doctor.verdict.ok": (
        "sightline can work here.",
        "sightline 可以在本机运行。",
    ),
    "doctor.verdict.broken": (
        "Something is broken; see above for what to do.",
        "存在故障，解决办法见上。",
    ),
    "doctor.level.ok": ("ok", "正常"),
    "doctor.level.note": ("note", "提示"),
    "doctor.level.warning": ("warning", "警告"),
    "doctor.level.broken": ("BROKEN", "故障"),
    "doctor.check.python": ("Python", "Python"),
    "doctor.check.torch": ("PyTorch", "PyTorch"),
    "doctor.check.driver": ("GPU", "GPU"),
    "doctor.check.device": ("device", "设备"),
    "doctor.check.bfloat16": ("bfloat16", "bfloat16"),
    "doctor.check.kernels": ("CPU kernels", "计算内核"),
    "doctor.check.memory": ("memory", "内存"),
    "doctor.check.gpu_memory": ("GPU memory", "显存"),
    "doctor.check.disk": ("disk", "磁盘"),
    "doctor.check.hub": ("hub", "模型站"),
    "doctor.check.proxies": ("proxies", "代理"),
    "doctor.check.port": ("port", "端口"),
    "doctor.check.files": ("open files", "文件数"),
    "doctor.check.threads": ("threads", "线程"),
    "doctor.check.self_test": ("self-test", "自检"),
    "doctor.python.ok": ("Python {version}, {bits} bits", "Python {version}，{bits} 位"),
    "doctor.python.unfit": (
        "Python {version}, {bits} bits; sightline needs 3.11 or newer, 64 bits",
        "Python {version}，{bits} 位；sightline 需要 64 位的 3.11 或更新版本",
    ),
    "doctor.python.unfit.fix": (
        "install Python 3.12 (for example `uv python install 3.12`), then sightline into it",
        "安装 Python 3.12（例如 `uv python install 3.12`），再在其中安装 sightline",
    ),
    "doctor.torch.ok": (
        "PyTorch {version} ({build} build), loaded in {seconds} s",
        "PyTorch {version}（{build} 版），载入用时 {seconds} 秒",
    ),
    "doctor.torch.unfit": (
        "PyTorch {version} is too old; sightline needs 2.6",
        "PyTorch {version} 过旧；sightline 需要 2.6",
    ),
    "doctor.torch.unfit.fix": ("pip install --upgrade torch", "pip install --upgrade torch"),
    "doctor.torch.missing": (
        "PyTorch cannot be loaded: {reason}",
        "无法加载 PyTorch：{reason}",
    ),
    "doctor.torch.silent": (
        "PyTorch gives {reason}: the machine is very busy, or the disk very slow",
        "PyTorch 没有应答（{reason}）：机器非常繁忙，或磁盘非常慢",
    ),
    "doctor.torch.silent.fix": (
        "examine again when the machine is quiet; `python -X importtime -c 'import torch'` shows "
        "what takes long",
        "机器空闲时再检查一次；`python -X importtime -c 'import torch'` 可查看耗时之处",
    ),
    "doctor.torch.missing.fix": (
        "pip install --force-reinstall torch",
        "pip install --force-reinstall torch",
    ),
    "doctor.driver.ok": (
        "{gpus}; driver {driver}, PyTorch for {build}",
        "{gpus}；驱动 {driver}，PyTorch 为 {build} 版",
    ),
    "doctor.driver.works": ("PyTorch uses it ({build})", "PyTorch 可以使用（{build}）"),
    "doctor.driver.none": (
        "no NVIDIA driver; models run on the processor",
        "没有 NVIDIA 驱动；模型在处理器上运行",
    ),
    "doctor.driver.mute": (
        "nvidia-smi is here and tells of no GPU ({problem}); models run on the processor",
        "装有 nvidia-smi，但它没有给出 GPU（{problem}）；模型在处理器上运行",
    ),
    "doctor.driver.mute.fix": (
        "after a driver update (version mismatch) restart the machine; in a container start it "
        "with --gpus all; else install the driver anew, until `nvidia-smi` lists the card",
        "更新驱动后（version mismatch）需重启；容器需以 --gpus all 启动；"
        "否则重新安装驱动，直到 `nvidia-smi` 能列出显卡",
    ),
    "doctor.driver.untold": (
        "{gpus}; driver {driver}; PyTorch must be mended first",
        "{gpus}；驱动 {driver}；请先修复 PyTorch",
    ),
    "doctor.driver.cpu_build": (
        "{gpus} (driver {driver}) is not used: this PyTorch is the build for processors",
        "{gpus}（驱动 {driver}）未被使用：当前 PyTorch 是 CPU 版",
    ),
    "doctor.driver.cpu_build.fix": (
        "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126",
        "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126",
    ),
    "doctor.driver.rocm": (
        "{gpus} (driver {driver}) is not used: this PyTorch is for {build}",
        "{gpus}（驱动 {driver}）未被使用：当前 PyTorch 为 {build} 版",
    ),
    "doctor.driver.rocm.fix": (
        "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126",
        "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126",
    ),
    "doctor.driver.old": (
        "driver {driver} is too old for PyTorch for {build}: it needs {needed} or newer",
        "驱动 {driver} 对 {build} 版 PyTorch 过旧：需要 {needed} 或更新",
    ),
    "doctor.driver.old.fix": (
        "update the driver to {needed} or newer, or take an older build: pip install "
        "--force-reinstall torch --index-url https://download.pytorch.org/whl/cu126",
        "将驱动更新到 {needed} 或以上，或安装较旧的版本：pip install --force-reinstall torch "
        "--index-url https://download.pytorch.org/whl/cu126",
    ),
    "doctor.driver.refused": (
        "{gpus}: driver {driver} is there, but PyTorch sees no GPU: {reason}",
        "{gpus}：驱动 {driver} 正常，但 PyTorch 看不到 GPU：{reason}",
    ),
    "doctor.driver.refused.fix": (
        "look at CUDA_VISIBLE_DEVICES (unset it), and in a container start it with --gpus all; "
        "after a driver update restart the machine",
        "检查 CUDA_VISIBLE_DEVICES（取消设置）；容器需以 --gpus all 启动；更新驱动后需重启",
    ),
    "doctor.driver.architecture": (
        "this PyTorch ({build}) has no code for {name}",
        "当前 PyTorch（{build}）不支持 {name}",
    ),
    "doctor.driver.architecture.fix": (
        "a new card wants a new build (pip install --upgrade torch), an old one an older: pip "
        "install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126",
        "新显卡需要新版本（pip install --upgrade torch），旧显卡需要旧版本：pip install "
        "--force-reinstall torch --index-url https://download.pytorch.org/whl/cu126",
    ),
    "doctor.device.absent": (
        "there is no device {name}; PyTorch sees {here}",
        "没有设备 {name}；PyTorch 看到的 GPU：{here}",
    ),
    "doctor.device.absent.fix": (
        "--device auto takes what is there, --device cpu the processor",
        "--device auto 自动选择，--device cpu 使用处理器",
    ),
    "doctor.bfloat16.gpu": ("the GPU computes in it", "GPU 支持"),
    "doctor.bfloat16.gpu_without": (
        "{name} does not compute in it; --dtype float16 or float32 is the choice there",
        "{name} 不支持；可用 --dtype float16 或 float32",
    ),
    "doctor.bfloat16.cpu": ("the processor computes in it", "处理器支持"),
    "doctor.bfloat16.cpu_without": (
        "this processor does not compute in it; sightline takes float32 (twice the memory) where "
        "that fits, and is slower where it does not",
        "处理器不支持；内存足够时 sightline 使用 float32（占用两倍内存），否则速度较慢",
    ),
    "doctor.kernels.ours": ("our own, for {vectors}", "自带内核，使用 {vectors}"),
    "doctor.kernels.ours_vnni": (
        "our own, for {vectors} with int8 products",
        "自带内核，使用 {vectors} 和 int8 乘法指令",
    ),
    "doctor.kernels.ours_bf16": (
        "our own, for {vectors} with bfloat16 and int8 products",
        "自带内核，使用 {vectors} 以及 bfloat16 和 int8 乘法指令",
    ),
    "doctor.kernels.foreign": (
        "PyTorch's; our own are made for Linux on x86-64 processors with AVX2",
        "使用 PyTorch 的内核；自带内核仅适用于 Linux 和带 AVX2 的 x86-64 处理器",
    ),
    "doctor.kernels.not_compiled": (
        "our own were not compiled; PyTorch's do the same, slower",
        "自带内核未编译；改用 PyTorch 的内核，功能相同但较慢",
    ),
    "doctor.kernels.not_compiled.fix": (
        "install a C compiler (for example `sudo apt install gcc`), then sightline again; in a "
        "checkout: `python hatch_build.py`",
        "安装 C 编译器（例如 `sudo apt install gcc`），再重新安装 sightline；源码目录中执行 "
        "`python hatch_build.py`",
    ),
    "doctor.kernels.unusable": (
        "our own cannot be used ({reason}); PyTorch's do the same, slower",
        "自带内核无法使用（{reason}）；改用 PyTorch 的内核，功能相同但较慢",
    ),
    "doctor.kernels.unusable.fix": (
        "install sightline again (in a checkout: `python hatch_build.py`); if that changes "
        "nothing, PyTorch: pip install --force-reinstall torch",
        "重新安装 sightline（源码目录中执行 `python hatch_build.py`）；若无效，再重装 PyTorch："
        "pip install --force-reinstall torch",
    ),
    "doctor.memory.ok": ("{free} of {total} GB free", "共 {total} GB，可用 {free} GB"),
    "doctor.memory.unfit": (
        "only {free} of {total} GB are free; even the bundled model wants 1 GB",
        "共 {total} GB，仅剩 {free} GB；内置模型也需要 1 GB",
    ),
    "doctor.memory.unfit.fix": (
        "close other programs, or give the container more memory (docker run --memory)",
        "关闭其他程序，或为容器分配更多内存（docker run --memory）",
    ),
    "doctor.memory.unknown": ("cannot be told on this system", "无法获知"),
    "doctor.gpu_memory.ok": (
        "GPU {index} ({name}): {free} of {total} GB free",
        "GPU {index}（{name}）：共 {total} GB，可用 {free} GB",
    ),
    "doctor.gpu_memory.held": (
        "GPU {index} ({name}): only {free} of {total} GB free; held by {holders}",
        "GPU {index}（{name}）：共 {total} GB，仅剩 {free} GB；占用者：{holders}",
    ),
    "doctor.gpu_memory.held.fix": (
        "end what is not needed (nvidia-smi lists it), or choose another GPU with --device cuda:N",
        "结束不需要的程序（nvidia-smi 可查看），或用 --device cuda:N 选择其他 GPU",
    ),
    "doctor.disk.ok": ("{free} GB free at {folder}", "{folder} 剩余 {free} GB"),
    "doctor.disk.small": (
        "{free} GB free at {folder}; glm-4v-9b alone is {needed} GB",
        "{folder} 剩余 {free} GB；仅 glm-4v-9b 就需要 {needed} GB",
    ),
    "doctor.disk.small.fix": (
        "for large models: `sightline pull NAME --into /larger/disk`, then --model-dir "
        "/larger/disk; or point XDG_CACHE_HOME there",
        "大模型可用 `sightline pull 名称 --into /大磁盘` 下载，再用 --model-dir /大磁盘；"
        "或将 XDG_CACHE_HOME 指向该处",
    ),
    "doctor.disk.locked": ("{folder} cannot be written", "无法写入 {folder}"),
    "doctor.disk.locked.fix": (
        "make it writable for this user, or point XDG_CACHE_HOME to a folder that is",
        "赋予当前用户写权限，或将 XDG_CACHE_HOME 指向可写目录",
    ),
    "doctor.hub.ok": ("{hub} answers in {ms} ms ({url})", "{hub} 应答 {ms} 毫秒（{url}）"),
    "doctor.hub.offline": ("{hub} is not asked: offline", "未连接 {hub}：离线模式"),
    "doctor.hub.huggingface_unreachable": (
        "Hugging Face ({url}) cannot be reached: {reason}",
        "无法连接 Hugging Face（{url}）：{reason}",
    ),
    "doctor.hub.huggingface_unreachable.fix": (
        "only downloads need it; ModelScope will do, or a mirror: export "
        "HF_ENDPOINT=https://hf-mirror.com",
        "仅下载时需要；可改用魔搭 ModelScope 或镜像：export HF_ENDPOINT=https://hf-mirror.com",
    ),
    "doctor.hub.modelscope_unreachable": (
        "ModelScope ({url}) cannot be reached: {reason}",
        "无法连接魔搭 ModelScope（{url}）：{reason}",
    ),
    "doctor.hub.modelscope_unreachable.fix": (
        "only downloads need it; Hugging Face will do, or set HTTPS_PROXY if this network wants a "
        "proxy",
        "仅下载时需要；可改用 Hugging Face，或在需要代理的网络中设置 HTTPS_PROXY",
    ),
    "doctor.hub.huggingface_cut_off": (
        "Hugging Face ({url}) cannot be reached: {reason}",
        "无法连接 Hugging Face（{url}）：{reason}",
    ),
    "doctor.hub.huggingface_cut_off.fix": (
        "only downloads need it; set HTTPS_PROXY if this network wants a proxy, or HF_ENDPOINT to "
        "a mirror inside it, or copy a model's folder here: sightline serve /the/folder",
        "仅下载时需要；在需要代理的网络中设置 HTTPS_PROXY，或将 HF_ENDPOINT 指向内网镜像，"
        "或将模型目录复制到本机：sightline serve /该目录",
    ),
    "doctor.hub.modelscope_cut_off": (
        "ModelScope ({url}) cannot be reached: {reason}",
        "无法连接魔搭 ModelScope（{url}）：{reason}",
    ),
    "doctor.hub.modelscope_cut_off.fix": (
        "the same, with MODELSCOPE_ENDPOINT for a mirror",
        "同上，镜像用 MODELSCOPE_ENDPOINT",
    ),
    "doctor.hub.page": (
        "at {url} something else than {hub} answers: {reason}",
        "{url} 的应答不是 {hub} 的：{reason}",
    ),
    "doctor.hub.page.fix": (
        "open {url} in a browser and log in where the network (a hotel's, a company's) asks for "
        "it; if it refuses, whoever runs it must let {host} through",
        "在浏览器中打开 {url}，按所在网络（酒店、公司等）的要求登录；若被拒绝，"
        "请网络管理员放行 {host}",
    ),
    "doctor.hub.page_mirror": (
        "at {url} ({mirror}) something else than a mirror of {hub} answers: {reason}",
        "{url}（{mirror}）的应答不是 {hub} 镜像的：{reason}",
    ),
    "doctor.hub.page_mirror.fix": (
        "`unset {mirror}`, or set it to a mirror of {hub}; if it is one, open {url} in a browser "
        "and log in where the network asks for it",
        "执行 `unset {mirror}`，或将其设为 {hub} 的镜像；若地址无误，请在浏览器中打开 {url} "
        "并按所在网络的要求登录",
    ),
    "doctor.hub.page_proxy": (
        "at {url}, through {proxy}={proxy_url}, something else than {hub} answers: {reason}",
        "经由 {proxy}={proxy_url} 访问 {url}，应答不是 {hub} 的：{reason}",
    ),
    "doctor.hub.page_proxy.fix": (
        "open {url} in a browser that uses this proxy and log in where it asks for it; if it "
        "refuses, whoever runs it must let {host} through, or `unset {proxy}` where none is needed",
        "在使用该代理的浏览器中打开 {url} 并按要求登录；若被拒绝，请代理管理员放行 {host}；"
        "不需要代理时执行 `unset {proxy}`",
    ),
    "doctor.hub.proxy_login": (
        "{hub} ({url}): the proxy {proxy}={proxy_url} wants a name and a password (407)",
        "{hub}（{url}）：代理 {proxy}={proxy_url} 要求用户名和密码（407）",
    ),
    "doctor.hub.proxy_login.fix": (
        "export {proxy}={scheme}://NAME:PASSWORD@{rest}",
        "export {proxy}={scheme}://用户名:密码@{rest}",
    ),
    "doctor.hub.proxy_refuses": (
        "{hub} ({url}): the proxy {proxy}={proxy_url} answers {reason}",
        "{hub}（{url}）：代理 {proxy}={proxy_url} 返回 {reason}",
    ),
    "doctor.hub.proxy_refuses.fix": (
        "whoever runs the proxy must let {host} through; or `unset {proxy}` where none is needed",
        "请代理管理员放行 {host}；不需要代理时执行 `unset {proxy}`",
    ),
    "doctor.hub.certificate": (
        "the certificate at {url} is not trusted: a login page, or a proxy that opens TLS, is in "
        "between",
        "{url} 的证书不受信任：中间有登录页面，或解密 TLS 的代理",
    ),
    "doctor.hub.certificate.fix": (
        "open {url} in a browser and log in where the network asks for it; of a company's proxy: "
        "export SSL_CERT_FILE=/its/certificates.pem REQUESTS_CA_BUNDLE=/its/certificates.pem",
        "在浏览器中打开 {url} 并按所在网络的要求登录；若是公司的代理：export "
        "SSL_CERT_FILE=/证书.pem REQUESTS_CA_BUNDLE=/证书.pem",
    ),
    "doctor.proxies.none": ("none", "无"),
    "doctor.proxies.ok": ("{name}: {host} takes connections", "{name}：{host} 可以连接"),
    "doctor.proxies.malformed": (
        "{name} is no address of a proxy, like http://host:3128",
        "{name} 不是 http://主机:3128 这样的代理地址",
    ),
    "doctor.proxies.malformed.fix": (
        "set it anew, or `unset {name}`",
        "重新设置，或执行 `unset {name}`",
    ),
    "doctor.proxies.dead": ("{name}: {host} takes no connections", "{name}：{host} 无法连接"),
    "doctor.proxies.dead.fix": (
        "start the proxy, or `unset {name}`",
        "启动该代理，或执行 `unset {name}`",
    ),
    "doctor.proxies.local": (
        "NO_PROXY does not name this machine: clients would send their questions to "
        "http://127.0.0.1 through the proxy, and get its errors",
        "NO_PROXY 未包含本机：客户端访问 http://127.0.0.1 时会经过代理并得到代理的错误",
    ),
    "doctor.proxies.local.fix": (
        "export NO_PROXY=localhost,127.0.0.1 where the clients run",
        "在客户端环境中执行 export NO_PROXY=localhost,127.0.0.1",
    ),
    "doctor.port.ok": ("{port} on {host} is free", "{host} 的端口 {port} 空闲"),
    "doctor.port.ours": (
        "sightline listens on {port} already (pid {pid})",
        "sightline 已在监听端口 {port}（进程 {pid}）",
    ),
    "doctor.port.taken": (
        "{port} on {host} is taken by {owner} (pid {pid})",
        "{host} 的端口 {port} 已被 {owner}（进程 {pid}）占用",
    ),
    "doctor.port.taken.fix": (
        "sightline serve --port {other}, or end that program: kill {pid}",
        "sightline serve --port {other}，或结束该程序：kill {pid}",
    ),
    "doctor.port.taken_unknown": (
        "{port} on {host} is taken by another user's program",
        "{host} 的端口 {port} 已被其他用户的程序占用",
    ),
    "doctor.port.taken_unknown.fix": (
        "sightline serve --port {other} (sudo ss -ltnp shows who has it)",
        "sightline serve --port {other}（sudo ss -ltnp 可查看占用者）",
    ),
    "doctor.port.forbidden": (
        "{port} may not be opened by this user",
        "当前用户不能使用端口 {port}",
    ),
    "doctor.port.forbidden.fix": (
        "choose a port from 1024 on: sightline serve --port 8888",
        "请选择 1024 及以上的端口：sightline serve --port 8888",
    ),
    "doctor.port.elsewhere": (
        "{host} is not an address of this machine",
        "{host} 不是本机的地址",
    ),
    "doctor.port.elsewhere.fix": (
        "sightline serve --host 127.0.0.1 --port {port}",
        "sightline serve --host 127.0.0.1 --port {port}",
    ),
    "doctor.files.ok": ("up to {limit}", "上限 {limit}"),
    "doctor.files.unlimited": ("any number", "不限"),
    "doctor.files.unfit": (
        "only {limit} may be open, which limits how many clients can be connected",
        "上限仅 {limit}，会限制同时连接的客户端数量",
    ),
    "doctor.files.unfit.fix": (
        "ulimit -n 65536 before the start (LimitNOFILE=65536 in systemd)",
        "启动前执行 ulimit -n 65536（systemd 中为 LimitNOFILE=65536）",
    ),
    "doctor.threads.ok": ("one for each of {cpus} cores", "{cpus} 个核心，每核一个线程"),
    "doctor.threads.many": (
        "{name}={value}, but this process may use {cpus} cores: threads wait for each other",
        "{name}={value}，但本进程只能使用 {cpus} 个核心：线程会互相等待",
    ),
    "doctor.threads.many.fix": (
        "unset {name}; sightline takes one thread for each core (--threads)",
        "unset {name}；sightline 默认每核一个线程（--threads）",
    ),
    "doctor.threads.few": (
        "{name}={value} leaves some of {cpus} cores idle; sightline serve --threads {cpus} "
        "overrules it",
        "{name}={value} 未用满 {cpus} 个核心；可用 sightline serve --threads {cpus}",
    ),
    "doctor.threads.malformed": (
        "{name}={value} is not a number of threads",
        "{name}={value} 不是线程数",
    ),
    "doctor.threads.malformed.fix": ("unset {name}", "unset {name}"),
    "doctor.self_test.ok": (
        "the bundled model was asked about a picture; {seconds} s from the start of its server, "
        "PyTorch being loaded: {answer}",
        "已就一张图片向内置模型提问；含启动服务共 {seconds} 秒（不含载入 PyTorch）：{answer}",
    ),
    "doctor.self_test.wrong": (
        "the bundled model saw a red circle and answered: {answer}",
        "内置模型面对红色圆形的回答是：{answer}",
    ),
    "doctor.self_test.wrong.fix": (
        "this installation or this processor computes wrongly: pip install --force-reinstall "
        "torch, then report it with the output of `sightline doctor --json`",
        "安装或处理器计算有误：pip install --force-reinstall torch，并附上 "
        "`sightline doctor --json` 的输出反馈",
    ),
    "doctor.self_test.failed": (
        "the bundled model could not answer: {reason}",
        "内置模型无法回答：{reason}",
    ),
    "doctor.self_test.failed.fix": (
        "mend what is broken above; else try --device cpu, and report it with `sightline doctor "
        "--json`",
        "先解决上面的故障；否则试用 --device cpu，并附上 `sightline doctor --json` 反馈",
    ),
}
