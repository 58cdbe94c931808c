"""Every text of the command line, English and Chinese side by side.

`use` chooses the language once, before the commands are built; `text` reads it. Errors that name
values are found here by their code, under `error.<code>`; an error without an entry keeps its own
English text.
"""

import re
from collections.abc import Mapping
from typing import Any

from sightline.cli import doctor_texts
from sightline.core.errors import StartupError
from sightline.settings import Language

_language: Language = "en"


def use(language: Language) -> None:
    global _language
    _language = language


def text(key: str, /, **values: Any) -> str:
    """Return the text in the chosen language with `values` filled in."""
    english, chinese = TEXTS[key]
    return (chinese if _language == "zh" else english).format(**values)


def setting(name: str, english: str) -> str:
    """Return the sentence that describes a setting; its English is the setting's own row."""
    return SETTINGS_ZH.get(name, english) if _language == "zh" else english


def error(raised: StartupError) -> str:
    """Return the text of an error; its own English when the catalogue has no entry for it."""
    entry = TEXTS.get(f"error.{raised.code}")
    if _language == "en" or entry is None:
        return raised.message
    causes = "".join(
        # That it is about starting has been said.
        cause.message if cause.code == "startup_error" else error(cause)
        for cause in raised.causes
    )
    values = with_reasons_said(raised.values)
    return entry[1].format(detail=causes or said(raised.message), causes=causes, **values)


def with_reasons_said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a text, those that are reasons in its language."""
    return {name: said(value) if name in _REASONS else value for name, value in values.items()}


def said(reason: object) -> object:
    """Return what a system, or a file's first bytes, gave as a reason, where Chinese is known."""
    if _language == "en" or not isinstance(reason, str):
        return reason
    return REASONS_ZH.get(re.sub(r"^\[Errno -?\d+\] ", "", reason), reason)


_REASONS = ("problem", "reason", "what")
REASONS_ZH = {
    "Connection refused": "连接被拒绝",
    "Connection reset by peer": "连接被重置",
    "Disk quota exceeded": "磁盘配额已用完",
    "File too large": "文件超过大小限制",
    "Input/output error": "磁盘读写错误",
    "Name or service not known": "域名无法解析",
    "Network is unreachable": "网络不可达",
    "No address associated with hostname": "域名无法解析",
    "No route to host": "没有到主机的路由",
    "No space left on device": "磁盘已满",
    "No such file or directory": "没有该文件或目录",
    "Not a directory": "不是目录",
    "Permission denied": "权限不足",
    "Read-only file system": "文件系统只读",
    "Temporary failure in name resolution": "域名暂时无法解析",
    "Connection timed out": "连接超时",
    "timed out": "超时",
    "empty": "空文件",
    "a git-lfs pointer (the real file was never downloaded)": "git-lfs 指针，真正的文件没有下载",
    "a web page (a failed download?)": "网页，可能是下载失败",
    "a pickle or zip archive": "pickle 或 zip 文件",
    "broken": "内容已损坏",
    "cut off: the table at its end is missing": "被截断，缺少末尾的目录",
    "broken: its header is none of safetensors": "文件头不是 safetensors 的",
    "The system gives no new process for the engine.": "系统无法为引擎创建新进程。",
    "There is not enough memory to load the model.": "内存不足，无法载入模型。",
}


TEXTS: dict[str, tuple[str, str]] = doctor_texts.TEXTS | {
    "app.help": (
        "Ask pictures questions, privately: vision-language models behind an OpenAI-compatible "
        "API on your own machine.",
        "在自己的机器上向图片提问：以 OpenAI 兼容接口私有部署视觉语言模型。",
    ),
    "lang.help": (
        "Language of messages: zh or en (default: the locale's).",
        "界面语言：zh 或 en（默认跟随系统语言）。",
    ),
    "bench.help": (
        "Measure the speed of any OpenAI-compatible server: tokens per second, time to first "
        "token, time between tokens.",
        "测量任意 OpenAI 兼容服务的速度：每秒 token 数、首 token 延迟、token 间隔。",
    ),
    "bench.url": ("Address of the server.", "服务地址。"),
    "bench.model": (
        "Model to ask (default: the server's first).",
        "要测的模型（默认为服务的第一个模型）。",
    ),
    "bench.concurrency": (
        "Closed loop: questions open at a time, several loads separated by commas.",
        "闭环：同时进行的请求数，多个档位用逗号分隔。",
    ),
    "bench.rate": (
        "Open loop instead: questions per second at random moments, separated by commas.",
        "改用开环：每秒随机到达的请求数，用逗号分隔。",
    ),
    "bench.requests": (
        "Questions of each load (default: 8 for each asker, or 20 s of arrivals).",
        "每个档位的请求数（默认为每路并发 8 个，或 20 秒的到达量）。",
    ),
    "bench.words": ("Words of each question.", "每个问题的词数。"),
    "bench.max_tokens": ("Tokens of each answer.", "每个回答的 token 数。"),
    "bench.images": (
        "A picture in each question: none, distinct ones, or the same one every time.",
        "每个问题的图片：none（无）、distinct（各不相同）、same（同一张）。",
    ),
    "bench.image_size": ("Side of the pictures in pixels.", "图片边长（像素）。"),
    "bench.seed": (
        "Other seeds make other questions, which no prefix cache knows.",
        "不同的种子生成不同的问题，避免命中前缀缓存。",
    ),
    "bench.extra": (
        "Further fields of the request as JSON, such as '{{\"ignore_eos\": true}}'.",
        "请求的附加字段（JSON），例如 '{{\"ignore_eos\": true}}'。",
    ),
    "bench.json": ("Write every figure to this file.", "把全部数据写入该文件。"),
    "bench.plot": (
        "Write a PNG of latency against load to this file.",
        "把延迟随负载变化的图（PNG）写入该文件。",
    ),
    "bench.warming": ("one question to warm up ...", "先发送一个预热请求……"),
    "bench.malformed": (
        "{option} wants numbers above 0 separated by commas, not {value!r}.",
        "{option} 需要以逗号分隔的正数，而不是 {value!r}。",
    ),
    "bench.extra_malformed": (
        "--extra wants a JSON object, not {value!r}.",
        "--extra 需要一个 JSON 对象，而不是 {value!r}。",
    ),
    "bench.unwritable": (
        "{file} cannot be written: {why}. Name another file.",
        "无法写入 {file}：{why}。请换一个文件。",
    ),
    "bench.no_model": ("The server at {url} names no model.", "{url} 的服务没有列出任何模型。"),
    "config_file.help": (
        "Settings file (default: sightline.toml of the current folder).",
        "配置文件（默认读取当前目录的 sightline.toml）。",
    ),
    "limit.help": (
        "Change a limit, for example --limit max_images=4; `sightline config` names them all.",
        "修改一项限制，例如 --limit max_images=4；`sightline config` 列出全部限制。",
    ),
    "limit.malformed": (
        "--limit wants NAME=VALUE, not '{value}'.",
        "--limit 的写法是 名称=数值，而不是 '{value}'。",
    ),
    "limit.unknown": (
        "There is no limit {name}; `sightline config` names them all.",
        "没有名为 {name} 的限制；`sightline config` 列出全部限制。",
    ),
    "serve.help": (
        "Serve a model behind the OpenAI-compatible API.",
        "启动服务，以 OpenAI 兼容接口提供模型。",
    ),
    "serve.loading": ("Loading {model}", "正在加载 {model}"),
    "serve.listening": (
        "sightline {version} listens on {url}; the model is still loading",
        "sightline {version} 已监听 {url}，模型加载中",
    ),
    "serve.ready": (
        "Ready in {seconds:.1f} s: {model} ({details}) at {url}",
        "已就绪，用时 {seconds:.1f} 秒：{model}（{details}），地址 {url}",
    ),
    "serve.parameters": ("{number} parameters", "{number} 参数"),
    "serve.memory": (
        "Memory: weights {weights}, keys and values {kv} for {tokens} tokens; held in all {held}",
        "内存：权重 {weights}，键值缓存 {kv}（{tokens} 个 token）；引擎共占用 {held}",
    ),
    "serve.estimated": (
        " (estimated: weights {weights}, at most {all})",
        "（估计：权重 {weights}，最多 {all}）",
    ),
    "serve.names": ("Answers to: {names}", "可用模型名：{names}"),
    "serve.ask": ("Ask it, for example:", "提问示例："),
    "serve.greeting": ("Hello!", "你好！"),
    "serve.stop": ("Ctrl-C stops the server.", "按 Ctrl-C 停止服务。"),
    "serve.new_key": (
        "The server is open to the network, so it wants a key. Made for this run: {api_key}",
        "服务对网络开放，因此需要密钥。本次运行的密钥：{api_key}",
    ),
    "serve.keep_key": (
        "Choose your own with --api-key or SIGHTLINE_API_KEY.",
        "可用 --api-key 或 SIGHTLINE_API_KEY 自行指定密钥。",
    ),
    "serve.stopping": (
        "Stopping: running answers may finish, new ones are refused. Ctrl-C again stops at once.",
        "正在停止：等待进行中的回答完成，不再接受新请求。再按一次 Ctrl-C 立即停止。",
    ),
    "serve.stopped": ("Stopped.", "已停止。"),
    "ask.help": (
        "Ask a question about pictures: files, http(s) addresses, or - for standard input.",
        "就图片提问：可以是文件、http(s) 地址，或用 - 从标准输入读取。",
    ),
    "ask.arguments": (
        "Pictures, then the question. Without a question: What is this?",
        "先写图片，再写问题。省略问题时默认为：这是什么?",
    ),
    "ask.question": ("What is this?", "这是什么?"),
    "ask.max_tokens": ("Longest answer in tokens.", "回答的最大 token 数。"),
    "ask.temperature": (
        "0 always takes the likeliest word; larger is more varied.",
        "0 表示总取最可能的词，越大越多样。",
    ),
    "ask.verbose": (
        "Show time to first token, tokens per second and image tokens.",
        "显示首 token 用时、生成速度与图片 token 数。",
    ),
    "ask.nothing": (
        "Give at least one picture or a question: sightline ask cat.png \"What is this?\"",
        "请至少给出一张图片或一个问题：sightline ask cat.png \"这是什么?\"",
    ),
    "ask.statistics": (
        "first token {ttft:.2f} s | {rate:.1f} tokens/s | image tokens {image_tokens} | "
        "prompt {prompt_tokens} | answer {completion_tokens} | total {total:.2f} s",
        "首 token {ttft:.2f} 秒 | {rate:.1f} token/秒 | 图片 token {image_tokens} | "
        "提示 {prompt_tokens} | 回答 {completion_tokens} | 总计 {total:.2f} 秒",
    ),
    "ask.cut": (
        "(The answer reached its length limit.)",
        "（回答已达到长度上限。）",
    ),
    "image.missing": ("There is no file {path}.", "找不到文件 {path}。"),
    "image.unreadable": ("Cannot read {path}: {reason}.", "无法读取 {path}：{reason}。"),
    "image.empty": ("{path} is empty.", "{path} 是空的。"),
    "image.too_large": (
        "{path} is over the limit of {limit} bytes.",
        "{path} 超过 {limit} 字节的上限。",
    ),
    "image.stdin": ("standard input", "标准输入"),
    "server.starting": (
        "No server answers at {url}; starting the model for this command.",
        "{url} 没有服务，正在为本次命令启动模型。",
    ),
    "server.loading": (
        "The server at {url} is loading its model; waiting for it.",
        "{url} 上的服务正在加载模型，请稍候。",
    ),
    "server.unreachable": (
        "No server answers at {url}. Start one with `sightline serve`.",
        "{url} 没有服务。请先运行 `sightline serve`。",
    ),
    "server.other_model": (
        "The server at {url} has no model {model}; starting it for this command.",
        "{url} 上的服务没有模型 {model}，正在为本次命令启动该模型。",
    ),
    "server.no_model": (
        "The server at {url} lists no model; name one with --model.",
        "{url} 上的服务没有列出任何模型，请用 --model 指定。",
    ),
    "server.hint_key": (
        "Give the key with --api-key or SIGHTLINE_API_KEY.",
        "请用 --api-key 或 SIGHTLINE_API_KEY 提供密钥。",
    ),
    "chat.help": (
        "Talk with the model about pictures, turn by turn.",
        "与模型就图片进行多轮对话。",
    ),
    "chat.welcome": (
        "Talking with {model}. /img FILE adds a picture, /help shows all commands.",
        "正在与 {model} 对话。/img 文件 添加图片，/help 查看全部命令。",
    ),
    "chat.commands": (
        "/img FILE|URL   add a picture to the next message\n"
        "/clear          forget the conversation\n"
        "/save FILE      write the conversation to a text file\n"
        "/help           show this\n"
        "/exit           leave (also Ctrl-D)",
        "/img 文件|地址   为下一条消息添加图片\n"
        "/clear          清空对话\n"
        "/save 文件       将对话保存为文本文件\n"
        "/help           显示本帮助\n"
        "/exit           退出（或按 Ctrl-D）",
    ),
    "chat.added": ("Added {name}; now ask about it.", "已添加 {name}，请提问。"),
    "chat.cleared": ("Forgotten.", "对话已清空。"),
    "chat.saved": ("Saved to {path}.", "已保存到 {path}。"),
    "chat.not_saved": ("Cannot write {path}: {reason}.", "无法写入 {path}：{reason}。"),
    "chat.unknown": (
        "No command {command}; /help shows all.",
        "没有命令 {command}，/help 查看全部。",
    ),
    "chat.wants_argument": ("{command} wants a file.", "{command} 后面要写文件名。"),
    "chat.interrupted": ("(interrupted)", "（已中断）"),
    "chat.you": ("You", "你"),
    "chat.picture": ("[picture: {name}]", "[图片：{name}]"),
    "inspect.help": (
        "Show what a model is made of, from its config.json alone: modules, shapes, parameters and "
        "bytes, what pictures and prompts cost.",
        "仅凭 config.json 展示模型结构：模块、形状、参数量与字节数，以及图片和提示的开销。",
    ),
    "inspect.model": (
        "A name of `sightline models --all` (it need not be downloaded), a model on this machine, "
        "or a folder with a config.json; without it: the bundled model.",
        "`sightline models --all` 中的名称（无需下载）、本机的模型，或含 config.json 的目录；"
        "省略时为内置模型。",
    ),
    "inspect.json": ("Print JSON; sizes are in bytes.", "输出 JSON，大小以字节计。"),
    "inspect.here": ("in {folder}", "位于 {folder}"),
    "inspect.not_here": (
        "not downloaded, told from its published config.json",
        "尚未下载，依据其公开的 config.json",
    ),
    "inspect.total": (
        "{number} parameters, {size} in {dtype}",
        "{number} 个参数，{dtype} 下共 {size}",
    ),
    "inspect.folded": (
        "Equal layers stand once: what is in them is told for one of them.",
        "相同的层只显示一次，其内部数字对应其中一层。",
    ),
    "inspect.column.structure": ("Structure", "结构"),
    "inspect.column.shape": ("Shape", "形状"),
    "inspect.column.parameters": ("Parameters", "参数量"),
    "inspect.column.size": ("Size", "大小"),
    "inspect.column.part": ("Part", "部分"),
    "inspect.column.picture": ("Picture", "图片"),
    "inspect.column.resized": ("Resized to", "缩放为"),
    "inspect.column.patches": ("Patches / merged", "图块 / 合并"),
    "inspect.column.tokens": ("Tokens", "token"),
    "inspect.column.positions": ("Positions", "位置数"),
    "inspect.column.kv": ("Keys and values", "键值缓存"),
    "inspect.part.vision": ("vision tower", "视觉塔"),
    "inspect.part.connector": ("connector", "连接器"),
    "inspect.part.language": ("language model", "语言模型"),
    "inspect.part.embeddings": ("token embeddings", "词嵌入"),
    "inspect.part.head": ("output head", "输出头"),
    "inspect.part.all": ("all", "合计"),
    "inspect.tied": (
        "The output head is the table of token embeddings: it takes nothing of its own.",
        "输出头与词嵌入共用同一张表，不另占空间。",
    ),
    "inspect.pictures": ("A picture:", "一张图片："),
    "inspect.any_size": ("any size", "任意尺寸"),
    "inspect.most_pictures": (
        "Pictures in a conversation: at most {number}.",
        "一次对话最多 {number} 张图片。",
    ),
    "inspect.prompts": ("Keys and values (KV cache):", "键值缓存（KV cache）："),
    "inspect.kv_token": ("a token", "每个 token"),
    "inspect.context": ("the longest context", "最长上下文"),
    "inspect.question": (
        "the largest picture, a question of {words}",
        "最大的图片加 {words} 个 token 的问题",
    ),
    "inspect.layers": (
        "{layers} layers x keys and values x {groups} heads x {head} numbers x bytes each.",
        "{layers} 层 x 键与值 x {groups} 个头 x {head} 个数 x 每个数的字节数。",
    ),
    "fit.help": (
        "Say whether a model fits this machine, before it is downloaded: weights, keys and values, "
        "pictures, what is free and who holds the rest, and what to do if it does not fit.",
        "在下载之前判断模型能否在本机运行：权重、键值缓存、图片、可用内存及其占用者；"
        "放不下时给出办法。",
    ),
    "fit.int8": (
        "With the language model's weights in int8.",
        "语言模型的权重用 int8。",
    ),
    "fit.int4": (
        "With the language model's weights in int4 and the tower's in int8.",
        "语言模型的权重用 int4，视觉塔用 int8。",
    ),
    "fit.both": ("Give --int8 or --int4, not both.", "--int8 与 --int4 只能选一个。"),
    "quantization.twice": (
        "These ask for different formats: {given}; leave all but one of them off.",
        "这些选项要求的格式不同：{given}，请只留一个。",
    ),
    "fit.twice": (
        "{model} asks for {behind}, the option for {chosen}; leave one of them off.",
        "{model} 要求 {behind}，而选项要求 {chosen}，请去掉其中一个。",
    ),
    "fit.stored": (
        "{model} is stored in {stored} and cannot be run in another format; leave the format off, "
        "or name the original model.",
        "{model} 以 {stored} 保存，不能换成其他精度运行；请去掉精度选项，或指定原始模型。",
    ),
    "fit.context": (
        "Tokens of a conversation, pictures and answer included (default: the model's longest).",
        "一次对话的 token 数，含图片与回答（默认为模型的最大长度）。",
    ),
    "fit.concurrency": (
        "Conversations of that length at the same time (default: 1).",
        "同时进行的这种长度的对话数（默认 1）。",
    ),
    "fit.images": (
        "Pictures that are encoded together.",
        "同时编码的图片数。",
    ),
    "fit.image_size": (
        "Size of the pictures that are counted, like 1280x720, for models that see pictures of any "
        "size (default: the largest).",
        "按多大的图片计算，如 1280x720；用于支持任意尺寸图片的模型（默认按最大尺寸）。",
    ),
    "fit.bad_image_size": (
        "--image-size: {value!r} is not a size such as 1280x720.",
        "--image-size：{value!r} 不是 1280x720 这样的尺寸。",
    ),
    "fit.image_refused": (
        "--image-size: the server refuses such a picture: {reason}",
        "--image-size：服务会拒绝这样的图片：{reason}",
    ),
    "fit.no_pictures": (
        "{model} sees no pictures; leave --image-size off.",
        "{model} 不支持图片，请去掉 --image-size。",
    ),
    "fit.largest": (
        "A picture is counted as the largest, {width} x {height}; --image-size 1280x720 plans for "
        "smaller ones.",
        "图片按最大的 {width} x {height} 计算；可用 --image-size 1280x720 按较小的图片规划。",
    ),
    "fit.memory": (
        "Plan for a device with this much free memory, like 24GB or 24GiB (7 % more), instead of "
        "asking this machine.",
        "按给定的可用内存规划，而不查询本机；如 24GB，或 24GiB（多 7%）。",
    ),
    "fit.bad_memory": (
        "--memory: {value!r} is not a size such as 24GB.",
        "--memory：{value!r} 不是 24GB 这样的大小。",
    ),
    "fit.imagined": ("imagined", "假想"),
    "fit.untold": (
        "This machine does not tell how much memory is free (of an NVIDIA GPU nvidia-smi does); "
        "plan with --memory 16GB.",
        "本机无法得知可用内存（NVIDIA GPU 的可用显存由 nvidia-smi 给出）；"
        "请用 --memory 16GB 这样的写法规划。",
    ),
    "fit.no_device": (
        "{device} is no device; use auto, cpu, cuda, or cuda:N.",
        "{device} 不是设备；请用 auto、cpu、cuda 或 cuda:N。",
    ),
    "fit.context_beyond": (
        "{model} was made for at most {longest} tokens; {context} are wanted.",
        "{model} 最多支持 {longest} 个 token，而要求的是 {context} 个。",
    ),
    "fit.vision": ("vision", "视觉"),
    "fit.title": ("{model} in {format} on {device}", "{model}，{format}，设备 {device}"),
    "fit.weights": ("Weights", "权重"),
    "fit.parameters": ("{number} parameters", "{number} 个参数"),
    "fit.table_copy": ("Embeddings as output head", "词嵌入兼作输出头的副本"),
    "fit.kv": ("Keys and values", "键值缓存"),
    "fit.kv_sum": (
        "{context} tokens x {number} at once x {token}",
        "{context} 个 token x 同时 {number} 路 x {token}",
    ),
    "fit.picture": ("of which a picture", "其中一张图片"),
    "fit.picture_sum": (
        "{tokens} tokens x {token}, {width} x {height} pixels",
        "{tokens} 个 token x {token}，{width} x {height} 像素",
    ),
    "fit.cache": ("Embeddings of pictures", "图片嵌入"),
    "fit.cache_sum": ("remembered for further questions", "为后续提问保留"),
    "fit.work": ("Work of a step", "计算所需"),
    "fit.encoding": ("Work of a picture", "图片编码"),
    "fit.work_images": (
        "encoding {number} of {width} x {height} pixels at once, estimated",
        "同时编码 {number} 张 {width} x {height} 像素的图片，估计值",
    ),
    "fit.work_tokens": ("{number} tokens, estimated", "{number} 个 token，估计值"),
    "fit.recordings": ("Recorded steps", "录制的解码步"),
    "fit.recordings_sum": (
        "up to {number} sequences at once, estimated",
        "最多同时 {number} 路，估计值",
    ),
    "fit.program": ("The program itself", "程序本身"),
    "fit.loading": ("More while loading", "加载时额外"),
    "fit.loading_sum": ("one tensor on its way", "一个正在读取的张量"),
    "fit.needed": ("Needed", "共需"),
    "fit.available": ("Can be taken", "可用"),
    "fit.free": ("{free} free of {total}", "空闲 {free}，总共 {total}"),
    "fit.limit": ("The bound is the control group {limit}.", "受控制组 {limit} 限制。"),
    "fit.holders": ("Memory is held by {holders}.", "占用内存的进程：{holders}。"),
    "fit.yes": ("It fits; {spare} stay free.", "放得下，还剩 {spare}。"),
    "fit.planned": (
        "The server takes {size} for keys and values: {tokens} tokens, {contexts} full contexts.",
        "服务会用 {size} 作键值缓存：{tokens} 个 token，{contexts} 个完整上下文。",
    ),
    "fit.run": ("Run it: {command}", "运行：{command}"),
    "fit.served": (
        "But `sightline serve` also keeps room for the largest picture, for which {missing} are "
        "missing.",
        "但 `sightline serve` 还要为最大的图片留出空间，为此还差 {missing}。",
    ),
    "fit.shorter": (
        "It fits with a shorter context: {context} tokens.",
        "缩短上下文后放得下：{context} 个 token。",
    ),
    "fit.no": ("It does not fit: {missing} are missing.", "放不下：还差 {missing}。"),
    "fit.over_total": (
        "Why: the weights in {format} alone take {weights}; the device has {total} in all.",
        "原因：仅 {format} 的权重就要 {weights}，而设备总共只有 {total}。",
    ),
    "fit.over_free": (
        "Why: the weights in {format} alone take {weights}, and {free} are free.",
        "原因：仅 {format} 的权重就要 {weights}，而空闲只有 {free}。",
    ),
    "fit.cpu_without_bfloat16": (
        "This processor has no bfloat16 arithmetic; float32 is faster, for more memory.",
        "该处理器不支持 bfloat16 运算；float32 更快，但占用更多内存。",
    ),
    "fit.gpu_without_bfloat16": (
        "This GPU does not compute in bfloat16; use --dtype float16.",
        "该 GPU 不支持 bfloat16 运算，请使用 --dtype float16。",
    ),
    "fit.nothing": (
        "Nothing that is known fits; free some memory, or use a larger machine",
        "没有已知的模型放得下，请释放内存或换更大的机器",
    ),
    "fit.best.fewer pictures": (
        "What fits: pictures one after another, {command}",
        "可行的办法：图片逐张编码，{command}",
    ),
    "fit.best.smaller cache": (
        "What fits: less for keys and values, {command}",
        "可行的办法：减少键值缓存，{command}",
    ),
    "fit.best.shorter context": (
        "What fits: a shorter context, {command}",
        "可行的办法：缩短上下文，{command}",
    ),
    "fit.best.fewer at once": (
        "What fits: {concurrency} at once, {command}",
        "可行的办法：同时 {concurrency} 路，{command}",
    ),
    "fit.best.other format": (
        "What fits: {format} ({needed}), {command}",
        "可行的办法：{format}（{needed}），{command}",
    ),
    "fit.best.other model": (
        "What fits: another model ({format}, {needed}), {command}",
        "可行的办法：换一个模型（{format}，{needed}），{command}",
    ),
    "fit.column.format": ("Format", "精度"),
    "fit.column.weights": ("Weights", "权重"),
    "fit.column.all": ("Needed", "共需"),
    "fit.column.verdict": ("Fits", "能否放下"),
    "fit.verdict.fits": ("yes", "能"),
    "fit.verdict.shorter context": ("with {context} tokens", "{context} 个 token 时能"),
    "fit.verdict.does not fit": ("no", "否"),
    "fit.will_cut": (
        "{model}: the memory holds {context} of {longest} tokens of context.",
        "{model}：内存只够 {longest} 个 token 上下文中的 {context} 个。",
    ),
    "fit.forced": (
        "{model} does not seem to fit; it is loaded all the same (--force).",
        "{model} 看来放不下，仍按 --force 加载。",
    ),
    "error.does_not_fit": (
        "",
        "{model}（{format}）需要 {needed}，而 {device} 可用 {available}（空闲 {free}）。{best}。"
        "`sightline fit {model}` 显示计算过程，--force 强制加载。",
    ),
    "error.context_beyond": (
        "",
        "{model} 最多支持 {longest} 个 token，而 --max-model-len 要求 {context} 个。",
    ),
    "error.no_such_gpu": ("", "nvidia-smi 没有找到设备 {device}；本机的 GPU：{here}。"),
    "output.full": (
        "What was to be written did not fit on the disk; free some space.",
        "输出写入失败：磁盘空间不足，请释放空间。",
    ),
    "models.help": (
        "List the bundled model and the model folders on this machine, with what is wrong with "
        "those that are incomplete.",
        "列出内置模型和本机上的模型目录，并说明不完整的目录缺什么。",
    ),
    "models.folders": (
        "Folders to search too (their direct subfolders as well).",
        "额外搜索的目录（含其直接子目录）。",
    ),
    "models.all": (
        "List the models that `sightline pull` knows by name instead.",
        "改为列出 `sightline pull` 认识的全部模型。",
    ),
    "models.incomplete": ("{folder}  incomplete: {reason}", "{folder}  不完整：{reason}"),
    "error.model_not_whole": ("", "{folder} 中的权重不完整：{causes}"),
    "error.weights_cut": (
        "",
        "{file} 被截断或已损坏：实际 {found} 字节，文件头标明 {expected} 字节；请重新获取该文件。",
    ),
    "error.weights_broken": ("", "{file} 不是可用的权重文件（{what}）；请重新获取该文件。"),
    "models.bundled": ("bundled", "内置"),
    "error.model_unknown": (
        "",
        "没有名为 {name} 的模型。最接近的有：{near}。`sightline models --all` 列出全部，"
        "也可以写 所有者/名称。",
    ),
    "error.model_not_here": ("", "本机还没有 {name}；`sightline pull {name}` 可下载。"),
    "error.model_hidden": (
        "",
        "当前目录下的 {path} 不是模型目录：其中没有 config.json，却与模型 {name} 同名；"
        "请给它改名，或在其他目录中运行。",
    ),
    "error.model_nowhere": (
        "",
        "没有模型目录 {name}；`sightline models` 列出本机的模型。可下载的最接近的名称：{near}；"
        "`sightline models --all` 列出全部。",
    ),
    "quantize.help": (
        "Save a model in 8 or 4 bits: half or a third of the size, loaded as fast as it is read.",
        "将模型存为 8 位或 4 位：体积为一半或三分之一，加载时无需再量化。",
    ),
    "quantize.model": (
        "Model folder, or a name from `sightline models`; :int8 or :int4 may stand behind it.",
        "模型文件夹，或 `sightline models` 中的名称；后面可加 :int8 或 :int4。",
    ),
    "quantize.out": ("New folder for the quantised model.", "存放量化模型的新文件夹。"),
    "quantize.writing": ("Quantising {model}", "正在量化 {model}"),
    "quantize.done": (
        "{out}: {kind}, {size}. Run it: {command}",
        "{out}：{kind}，{size}。运行：{command}",
    ),
    "error.quantized_already": ("", "{folder} 已经量化（{stored}），请使用原始文件夹。"),
    "error.quantize_there": ("", "{target} 已存在，请换一个新文件夹。"),
    "error.quantize_no_room": ("", "量化后的权重需要 {size} GB，磁盘只剩 {free} GB。"),
    "error.quantize_disk": ("", "写入 {target} 失败：{reason}。"),
    "error.quantize_full": ("", "写入 {target} 失败：{reason}。请释放空间。"),
    "error.quantize_locked": ("", "另一个进程正在写入 {target}，请等待其完成。"),
    "error.quantize_none": ("", "无事可做：所有权重都保持原样。"),
    "error.quantization_twice": (
        "",
        "{name} 要求 {behind}，而 --quantization 要求 {chosen}，请去掉其中一个。",
    ),
    "error.pull_offline": ("", "本机没有 {name}，而当前为离线模式。"),
    "error.verify_offline": (
        "",
        "{folder} 中与下载时不一致的文件：{files}。当前为离线模式，不会重新下载。",
    ),
    "error.verify_no_record": (
        "",
        "无从得知 {folder} 中应有哪些文件：其中没有 `sightline pull` 写下的 {file}。",
    ),
    "error.pull_damaged": (
        "",
        "从 {hub} 下载的 {file} 已损坏；请稍后重试，或用 --from 换另一个模型站。",
    ),
    "error.pull_locked": ("", "另一个进程正在下载 {name}，请等待其完成。"),
    "error.pull_folder": ("", "无法写入 {folder}：{reason}。"),
    "error.pull_other_model": (
        "",
        "{folder} 中是 {held}，而不是 {name}；请删除它，"
        "或用 `sightline pull --into` 下载到其他目录。",
    ),
    "error.pull_not_removed": ("", "无法删除 {folder}：{reason}。"),
    "error.pull_impossible": ("", "{hub} 上的 {file} 大小为 {size} 字节，不可能属实。"),
    "error.pull_dead_link": ("", "{folder} 是失效的链接；请删除它，或恢复其指向的目录。"),
    "error.pull_disk": ("", "写入磁盘失败：{reason}。已下载的部分保留；请释放空间后重新运行。"),
    "error.pull_write": (
        "",
        "无法写入 {file}：{reason}。已下载的部分保留；请检查磁盘及其权限后重新运行。",
    ),
    "error.pull_no_room": (
        "",
        "磁盘空间不足：还需 {needed} GB，而 {folder} 所在磁盘仅剩 {free} GB。"
        "请释放空间，或用 `sightline pull --into` 指定其他磁盘。",
    ),
    "error.pull_no_model": (
        "",
        "{hub} 上的 {repository} 没有 config.json，或没有 sightline 能读取的权重。",
    ),
    "error.pull_no_tokenizer": (
        "",
        "{hub} 上的 {repository} 没有 sightline 能读取的分词器。",
    ),
    "error.pull_no_shard": (
        "",
        "{hub} 上的 {repository} 的索引提到 {file}，但该文件不存在；请用 --from 换另一个模型站。",
    ),
    "error.hub_failed": ("", "模型站没有给出该模型：{detail}"),
    "error.hub_answers": ("", "{subject}：模型站返回 {status}。"),
    "error.hub_key_broken": (
        "",
        "没有请求 {subject}：{variable} 中有密钥不可能含有的字符，请重新设置。",
    ),
    "error.hub_not_understood": (
        "",
        "{subject}：返回的内容不是模型站的应答{way}；中间是否有登录页面或代理？",
    ),
    "error.hub_another_answer": (
        "",
        "{subject}：返回的内容不是清单中的文件{way}；中间是否有登录页面或代理？",
    ),
    "error.hub_unreachable": ("", "无法连接 {subject}{way}：{reason}。"),
    "error.hub_proxy": ("", "无法连接 {subject}{way}：代理返回 {status}。"),
    "error.hub_certificate": (
        "",
        "无法连接 {subject}{way}：证书不受信任。中间有登录页面，或解密 TLS 的代理；"
        "若是后者，请用 SSL_CERT_FILE 和 REQUESTS_CA_BUNDLE 指定其证书。",
    ),
    "error.hub_slow": ("", "{subject} 传输过慢{way}：{seconds} 秒内平均每秒 {rate} 字节。"),
    "error.hub_stopped": ("", "{hub}：{file} 在 {expected} 字节中的第 {found} 字节处中断。"),
    "error.hub_silent": ("", "{hubs}：{seconds} 秒内没有应答。"),
    "error.hub_missing": ("", "{subject} 不存在（404）。"),
    "error.hub_wants_key": (
        "",
        "{subject} 不存在，或需要有权读取的密钥（{status}）；请设置 {variable}，"
        "如有许可协议，请先在 {page} 接受。",
    ),
    "error.hub_gated": (
        "",
        "{subject} 需要先接受许可协议（{status}）：请在 {page} 接受，并把 {variable} "
        "设为该账号的密钥。",
    ),
    "error.hub_none": ("", "没有模型站给出该模型。{causes}"),
    "error.hub_none_knows": (
        "",
        "没有模型站给出该模型。{causes}已知的最接近的名称：{near}；"
        "`sightline models --all` 列出全部。",
    ),
    "pull.other_hub": ("{reason} The other hub is asked.", "{reason}改用另一个模型站。"),
    "pull.help": (
        "Download a model from ModelScope or Hugging Face: weights, configuration and tokenizer, "
        "checked file by file; never code.",
        "从魔搭 ModelScope 或 Hugging Face 下载模型：仅权重、配置和分词器，逐个校验，不下载代码。",
    ),
    "pull.model": (
        "A name of `sightline models --all`, or OWNER/NAME on a hub.",
        "`sightline models --all` 中的名称，或模型站上的 所有者/名称。",
    ),
    "pull.from": (
        "Which hub (default: the one that answers first, or the other if that one does not give "
        "the files). HF_ENDPOINT and MODELSCOPE_ENDPOINT name mirrors.",
        "从哪个模型站下载（默认用先应答的，它不给文件时改用另一个）。"
        "镜像由 HF_ENDPOINT 和 MODELSCOPE_ENDPOINT 指定。",
    ),
    "pull.into": (
        "Folder for the model's folder (default: the cache).",
        "模型目录的上级目录（默认为缓存目录）。",
    ),
    "pull.verify": (
        "Check every file of a model that is here against the hash that the hub told, and fetch "
        "again those that are damaged; with --offline only check.",
        "逐个核对本机已下载模型的文件与模型站给出的哈希，损坏的重新下载；加 --offline 则只核对。",
    ),
    "verify.checking": (
        "Checking {files} files, {size}, in {folder}",
        "正在核对 {files} 个文件，共 {size}，位于 {folder}",
    ),
    "verify.damaged": (
        "  {file} is not what was downloaded.",
        "  {file} 与下载时不一致。",
    ),
    "verify.whole": (
        "{model} is as it was downloaded: {files} files, {size}, in {folder}",
        "{model} 与下载时一致：{files} 个文件，共 {size}，位于 {folder}",
    ),
    "verify.anew": (
        "{model} is whole again: {anew} of {files} files were fetched anew, in {folder}",
        "{model} 已修复：{files} 个文件中的 {anew} 个已重新下载，位于 {folder}",
    ),
    "verify.no_hash": (
        "Of {number} of them the hub told no hash; they were checked by size and form.",
        "其中 {number} 个文件模型站没有给出哈希，仅核对了大小与格式。",
    ),
    "pull.quiet": ("Print nothing but errors.", "除错误外不输出任何内容。"),
    "pull.offline": (
        "Ask no hub: only say whether the model is here.",
        "不连接模型站，只检查模型是否已在本机。",
    ),
    "pull.coming": (
        "{model}: {size} in {files} files from {hub} ({repository}).",
        "{model}：共 {size}，{files} 个文件，来自 {hub}（{repository}）。",
    ),
    "pull.to": (
        "  Folder: {folder} ({free} free on that disk)",
        "  目录：{folder}（该磁盘剩余 {free}）",
    ),
    "pull.licence": ("  Licence: {licence}", "  许可：{licence}"),
    "pull.fits": (
        "  Memory: it fits, {needed} of {available} on {device} as {format}",
        "  内存：放得下，以 {format} 运行需 {needed}，{device} 可用 {available}",
    ),
    "pull.resumed": ("  {here} of it are here from before.", "  此前已下载 {here}，继续下载。"),
    "pull.kept": (
        "Stopped. What has come is kept; the same command goes on from here.",
        "已停止。已下载的部分保留，再次运行同一命令即可继续。",
    ),
    "pull.automatic": (
        "{model} is not on this machine yet; downloading it first.",
        "本机还没有 {model}，先下载。",
    ),
    "pull.left": ("{time} left", "剩余 {time}"),
    "pull.done": (
        "{model} is here ({size}, from {hub}): {command}",
        "{model} 已下载（{size}，来自 {hub}）：{command}",
    ),
    "pull.there": ("{model} was here already: {folder}", "{model} 已在本机：{folder}"),
    "rm.help": (
        "Remove a downloaded model and what is left of its download.",
        "删除已下载的模型及其未完成的下载。",
    ),
    "rm.model": ("Name of the model; several for several.", "模型名称，可以写多个。"),
    "rm.which": (
        "Which one? sightline models rm MODEL; `sightline models` lists what is here.",
        "要删除哪个？sightline models rm 模型；`sightline models` 列出本机的模型。",
    ),
    "rm.bundled": (
        "{model} is part of sightline and stays.",
        "{model} 是 sightline 自带的模型，不会删除。",
    ),
    "rm.elsewhere": (
        "{model} is in {folder}, where `sightline pull` did not put it; remove the folder "
        "yourself.",
        "{model} 位于 {folder}，不是 `sightline pull` 默认下载的位置；请自行删除该目录。",
    ),
    "rm.done": ("Removed {folder} ({size}).", "已删除 {folder}（{size}）。"),
    "rm.nothing": (
        "There is no downloaded model {model} in {folder}.",
        "{folder} 中没有已下载的模型 {model}。",
    ),
    "models.none": (
        "No other models in: {folders}",
        "以下目录中没有其他模型：{folders}",
    ),
    "keys.help": (
        "Make, list and revoke API keys; a running server follows within a second.",
        "创建、列出和吊销接口密钥；运行中的服务会在一秒内生效。",
    ),
    "keys.add.help": (
        "Make a key and print it, once; the file keeps only its SHA-256.",
        "创建密钥并显示一次；文件中只保存其 SHA-256。",
    ),
    "keys.list.help": ("List the keys of the file.", "列出文件中的密钥。"),
    "keys.revoke.help": ("Take a key out of the file.", "从文件中删除密钥。"),
    "keys.name": (
        "Name of the key: letters, digits, dots, dashes.",
        "密钥名称：字母、数字、点、横线。",
    ),
    "keys.model": (
        "A model name the key may use; several times for several (default: all).",
        "密钥可使用的模型名，可重复（默认全部）。",
    ),
    "keys.requests": ("Requests per minute.", "每分钟请求数。"),
    "keys.tokens": ("Tokens per minute, prompts and answers.", "每分钟 token 数，含提示与回答。"),
    "keys.images": ("Pictures per minute.", "每分钟图片数。"),
    "keys.days": ("Days until the key expires (default: never).", "有效天数（默认永久）。"),
    "keys.bad_name": (
        "A name has 1 to 64 letters, digits, dots, dashes or underscores.",
        "名称为 1 至 64 个字母、数字、点、横线或下划线。",
    ),
    "keys.name_taken": (
        "There is a key named {name} already; revoke it first, or choose another name.",
        "已有名为 {name} 的密钥；请先吊销，或换一个名称。",
    ),
    "keys.added": (
        "Key {name} is in {path}. It is shown this once; give it to the client now.",
        "密钥 {name} 已写入 {path}。密钥只显示这一次，请立即交给客户端。",
    ),
    "keys.none": ("No keys in {path}.", "{path} 中没有密钥。"),
    "keys.unknown": ("No key {name} in {path}.", "{path} 中没有密钥 {name}。"),
    "keys.revoked": ("Revoked: {name}", "已吊销：{name}"),
    "keys.rate": ("{number} {what}/min", "每分钟 {number} {what}"),
    "keys.unit.requests": ("requests", "次请求"),
    "keys.unit.tokens": ("tokens", "个 token"),
    "keys.unit.images": ("pictures", "张图片"),
    "keys.only": ("only {models}", "仅限 {models}"),
    "keys.expires": ("until {date}", "有效期至 {date}"),
    "keys.expired": ("expired {date}", "已于 {date} 过期"),
    "version.help": ("Show the versions that matter in a report.", "显示版本信息。"),
    "config.help": (
        "Show every setting, its value and where it came from.",
        "显示每项设置的值及其来源。",
    ),
    "error.port_in_use": (
        "",
        "端口 {port} 已被占用（{host}）。请用 --port 换一个端口，或停止占用它的程序。",
    ),
    "error.port_forbidden": (
        "",
        "没有权限监听 {host} 的端口 {port}。请用 --port 选择 1024 以上的端口。",
    ),
    "error.bad_host": ("", "无法监听地址 {host}：本机没有这个地址。请用 --host 指定其他地址。"),
    "error.folder_absent": ("", "没有模型目录 {folder}。"),
    "error.file_missing": ("", "{folder} 中没有 {file}。"),
    "error.file_unreadable": ("", "{file} 无法读取，请检查权限。"),
    "error.file_leads_out": ("", "{file} 是指向模型目录之外的链接，拒绝读取。"),
    "error.file_irregular": ("", "{file} 不是普通文件。"),
    "error.file_too_large": ("", "{file} 超过 {most} 字节，不合常理。"),
    "error.file_no_json": ("", "{file} 不是 JSON（{what}）。"),
    "error.file_no_object": ("", "{file} 中应为 JSON 对象，实际是 {kind}。"),
    "error.weights_absent": ("", "目录中没有 {file}，也没有 {file}.index.json。"),
    "error.tokenizer_absent": ("", "{folder} 中没有分词器，可识别的有：{known}。"),
    "error.config_no_type": ("", "config.json 中没有 'model_type'；支持的有：{supported}。"),
    "error.config_other_type": (
        "",
        "config.json 的 model_type {found} 尚不支持；支持的有：{supported}。",
    ),
    "error.config_converted": (
        "",
        "config.json 的 model_type 'glm' 不支持；为 transformers 转换过的 GLM-4（-hf）请改用原版，"
        "例如 glm-4-9b-chat。",
    ),
    "error.config_other_architecture": (
        "",
        "config.json 的 architectures {found} 不支持；支持的有：{supported}。",
    ),
    "error.config_value": ("", "{where} 中 {key} 的值 {found} 不支持；支持的是：{supported}。"),
    "error.config_value_missing": ("", "{where} 中缺少 {key}；支持的是：{supported}。"),
    "error.model_unusable": ("", "无法使用该模型：{detail}"),
    "error.model_not_bundled": ("", "安装包中缺少内置模型，请重新安装，或指定一个模型目录。"),
    "error.config_invalid": ("", "配置有误：{detail}"),
    "error.config_unreadable": ("", "无法读取配置：{detail}"),
    "error.startup_error": ("", "无法启动：{detail}"),
    "error.key_file": ("", "密钥文件不可用：{detail}"),
    "error.allow_origin": ("", "--allow-origin 有误：{detail}"),
    "error.media_root": ("", "--media-root 不可用：{detail}"),
    "error.allow_media_host": ("", "--allow-media-host 有误：{detail}"),
}  # fmt: skip


SETTINGS_ZH: dict[str, str] = {
    "host": "监听地址；0.0.0.0 表示对网络开放。",
    "port": "监听端口；0 表示自动选择空闲端口。",
    "api_key": "可访问接口的密钥；客户端发送第一个。",
    "key_file": "由 `sightline keys` 创建的密钥文件；默认使用配置目录中的 keys.json（如果存在）。",
    "requests_per_minute": "未单独设置的密钥每分钟的请求数；默认不限。",
    "tokens_per_minute": "此类密钥每分钟的 token 数，含提示与回答；默认不限。",
    "images_per_minute": "此类密钥每分钟的图片数；默认不限。",
    "allow_origin": "允许其网页使用接口的网站，例如 https://chat.example.org。",
    "allow_host": "服务监听本机回环地址时，浏览器还可使用的主机名。",
    "inspect_content": "在内存中保留最近请求的文本，并显示在 /status 页面。",
    "strict": "拒绝含有将被忽略的字段的请求。",
    "max_output_tokens": "请求未设置 max_tokens 时回答的最大 token 数。",
    "low_detail_pixels": "以 `detail: low` 发送的图片的最大像素数，适用于接受任意尺寸图片的模型；"
    "不设则与其他图片相同。",
    "extra_images": "单图模型遇到之前轮次的图片：latest 只保留最新一张，error 拒绝请求。",
    "model": "模型目录，或 `sightline models`、`models --all` 中的名称（本机没有时自动下载）；"
    "留空使用内置模型。",
    "offline": "不连接模型站：本机没有的模型直接报错，不下载。",
    "served_model_name": "模型对外的名称，第一个为正式名称。",
    "model_dir": "存放模型的目录，会搜索其子目录。",
    "engine": "模型运行位置：process 独立进程，inline 本进程，fake 仅回显的假引擎。",
    "device": "运行设备：auto、cpu、cuda 或 cuda:N。",
    "quantization": (
        "语言模型权重的量化，加载时完成；不设则按存储的样子，或取 MODEL 后面的 :int8、:int4。"
    ),
    "quantization_vision": "视觉部分的量化；不设则在语言部分为 int4 时取 int8，否则按存储的样子。",
    "dtype": "权重精度；auto 采用检查点自身的精度，处理器不支持 bfloat16 运算时用 float32。",
    "max_model_len": "单次对话的最大 token 数，含图片与回答。",
    "threads": "引擎使用的 CPU 线程数；默认每核一个。",
    "kv_cache_memory": "键值缓存内存，字节数，或 2GiB、2GB 这样的写法；默认按机器选择。",
    "gpu_memory_utilization": "显存最多占用的比例，含其他程序已占用的部分。",
    "force": "即使模型看来放不下也照样加载。",
    "max_num_seqs": "同时计算的回答数；默认与 max_running 相同。",
    "max_num_batched_tokens": "每一步计算的 token 数；越大处理长提示越快，但其他回答等待越久。",
    "block_size": "一块的 token 数，键值缓存的内存按块分配。",
    "prefix_caching": "提示的公共开头只计算一次。",
    "overlap_steps": "计算当前一步时预先安排下一步；默认仅在 GPU 上启用。",
    "num_speculative_tokens": (
        "每一步按已出现过的内容预猜并一并验证的回答 token 数；仅在 CPU 上；0 表示不预猜。"
    ),
    "attention_backend": "GPU 上的注意力实现；auto 依次尝试 triton、varlen、sdpa，取第一个可用的。",
    "cuda_graphs": "在 GPU 上重放录制好的解码步骤，省去逐个启动内核的开销。",
    "without_kernels": "GPU 上不尝试的内核；own 为我们自己的全部。致使引擎启动崩溃的会自动排除。",
    "debug_engine": "引擎每一步记录一行日志：计算了什么，为什么。",
    "fetch": "允许通过 http(s) 地址获取图片。",
    "allow_media_host": "允许为私有地址或任意端口的图片主机（host 或 host:port）。",
    "media_root": "允许请求引用其中文件的目录；默认不允许。",
    "image_cache_bytes": "为再次提问保留的已解码图片所用内存。",
    "url": "`ask` 与 `chat` 优先使用的服务地址。",
    "lang": "命令行语言：zh 或 en；默认跟随系统语言。",
}
