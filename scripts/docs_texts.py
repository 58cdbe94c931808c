"""What `write_docs.py` says around the tables that it takes from the code, English and Chinese."""

from dataclasses import dataclass
from pathlib import Path

from sightline.settings import Language


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one language. `limits` is what each limit bounds; empty: as in the code."""

    configuration: str
    installation: str
    about_limits: str
    command_line: str
    sections: dict[str, str]
    colon: str
    limits_title: str
    setting_columns: str
    limit_columns: str
    option_columns: str
    types: dict[type, str]
    list_of: str
    unset: str
    limits: dict[str, str]


_CONFIGURATION = """\
# Configuration

[中文](zh/configuration.md)

Every setting has one name. `port`, for example, is the flag `--port`, the environment variable
`SIGHTLINE_PORT`, and `port` in the `[server]` table of a file. Flags win over the environment, the
environment over the file, the file over the defaults. `sightline config` prints every value and
where it came from, in a form that is itself a valid file; keys are masked.

The file is `sightline.toml` of the current folder, or what `--config` or `SIGHTLINE_CONFIG` names:

```toml
[server]
port = 9000
strict = true

[limits]
max_image_bytes = 5_000_000
```

An unknown name, in a file, the environment or a flag, is an error, and so is a value of the wrong
type. Several values are a list in a file, a repeated flag, and separated by commas in the
environment. `url` and `lang` cannot be set in a file: a file that lies in some folder must not
redirect private pictures. A key given as a flag can be seen by other users of the machine (`ps`);
prefer `SIGHTLINE_API_KEY` or a file.
"""

_CONFIGURATION_ZH = """\
# 配置

[English](../configuration.md)

每项设置只有一个名字。以 `port` 为例：命令行选项是 `--port`，环境变量是 `SIGHTLINE_PORT`，
在配置文件里是 `[server]` 表中的 `port`。命令行选项优先于环境变量，环境变量优先于文件，
文件优先于默认值。`sightline config` 列出每项的值及其来源，其输出本身就是一份有效的配置文件；
密钥不会显示。

配置文件是当前目录下的 `sightline.toml`，或由 `--config`、`SIGHTLINE_CONFIG` 指定：

```toml
[server]
port = 9000
strict = true

[limits]
max_image_bytes = 5_000_000
```

无论在文件、环境变量还是命令行里，名字不认识或类型不对都会报错。有多个值时：文件里写成列表，
命令行上重复选项，环境变量里用逗号分隔。`url` 和 `lang` 不能写在文件里：
随便哪个目录里的一份文件，不应把私有图片引向别处。写在命令行上的密钥会被本机其他用户看到（`ps`），
最好用 `SIGHTLINE_API_KEY` 或文件。
"""

_INSTALLATION = """\
## When sightline is installed

Where there is a C compiler, installing compiles kernels for x86-64 processors under Linux (ADR
[31](adr/0031-our-own-kernels-for-processors.md)). These variables are read then and never by a
server; `python hatch_build.py`, which compiles anew in a checkout, reads the last two.

| Variable | What it does |
|---|---|
| `SIGHTLINE_KERNELS` | `0`: compile nothing; `1`: fail if compiling does; unset: try. |
| `CC` | The C compiler; unset: the first of cc, gcc and clang. |
| `CFLAGS` | Further options for it. |
"""

_INSTALLATION_ZH = """\
## 安装时

机器上有 C 编译器的话，安装时会为 Linux 下的 x86-64 处理器编译计算内核
（[ADR 31](../adr/0031-our-own-kernels-for-processors.md)，英文）。下列变量只在安装时读取，
服务运行时不读；在源码目录里用 `python hatch_build.py` 重新编译时读取后两个。

| 变量 | 作用 |
|---|---|
| `SIGHTLINE_KERNELS` | `0`：不编译；`1`：编译失败即安装失败；不设：尝试编译。 |
| `CC` | C 编译器；不设：cc、gcc、clang 中最先找到的。 |
| `CFLAGS` | 附加的编译选项。 |
"""

_LIMITS = """\
Every limit is inclusive, and a request over it is refused with the code in the table (`-`: nothing
is refused, work waits or stops). Change one with `--limit NAME=VALUE`, `SIGHTLINE_NAME` or the
`[limits]` table. Sizes are in bytes, times in seconds.
"""

_LIMITS_ZH = """\
等于上限是允许的；超过上限的请求以表中的错误码拒绝（`-`：不拒绝，而是等待或停止）。
用 `--limit 名称=值`、`SIGHTLINE_名称` 或 `[limits]` 表修改。大小以字节计，时间以秒计。
"""

_CLI = """\
# Command line

[中文](zh/cli.md)

Messages are in Chinese or English, by locale or `--lang zh|en`. Exit status: 0 done; 1 the server
refused or failed, `doctor` found something broken, or what `fit` was asked about does not fit; 2
wrong usage, or something cannot start; 3 the disk is too small for a download (what has come of it
is kept); 130 interrupted.
"""

_CLI_ZH = """\
# 命令行

[English](../cli.md)

消息为中文或英文，跟随系统语言，或由 `--lang zh|en` 指定。退出码：0 完成；
1 服务拒绝或出错、`doctor` 发现故障、`fit` 所问的放不下；2 用法有误，或无法启动；
3 磁盘空间不足以下载（已下载的部分会保留）；130 被中断。
"""

_LIMITS_BOUND_ZH = {
    "max_request_line_bytes": "请求行",
    "max_headers": "请求头的数量",
    "max_header_bytes": "全部请求头",
    "header_timeout_s": "收完请求头的时间",
    "keep_alive_timeout_s": "正常请求之后连接空闲的时间",
    "max_body_bytes": "请求体，边读边计",
    "max_body_chunks": "分块传输的请求体的块数",
    "max_held_bytes": "所有请求的请求体和已下载图片的总和",
    "body_timeout_s": "请求体慢于 1 KiB/s",
    "max_json_depth": "JSON 请求体的嵌套层数",
    "max_json_values": "JSON 请求体中值和列表的个数",
    "max_json_texts": "JSON 请求体中名字、文本、列表和对象的个数",
    "max_messages": "一个请求的消息数",
    "max_parts": "一条消息的部分数",
    "max_prompts": "一次文本补全的提示词数",
    "max_metadata_bytes": "`user`、`metadata` 等",
    "max_stop_strings": "停止词的个数",
    "max_stop_chars": "一个停止词的字符数",
    "max_choices": "一个请求的回答数（`n`）",
    "max_top_logprobs": "每个 token 旁边的候选数",
    "max_logit_biases": "`logit_bias` 的条数",
    "max_tools": "一个请求的工具数",
    "max_schema_bytes": "一个 JSON schema",
    "max_schema_depth": "JSON schema 的嵌套层数",
    "max_schema_properties": "JSON schema 的属性数",
    "schema_timeout_s": "编译 JSON schema 的时间",
    "max_images": "一个请求的图片数",
    "max_image_bytes": "一张编码后的图片",
    "max_fetch_bytes": "为一个请求下载的总量",
    "max_image_pixels": "一张图片的像素数",
    "max_image_side": "图片的最长边",
    "max_image_ratio": "图片长宽之比",
    "decode_timeout_s": "解码一张图片",
    "decode_workers": "解码进程数",
    "decode_rss_bytes": "每个解码进程的常驻内存",
    "decode_address_bytes": "每个解码进程的地址空间",
    "max_url_bytes": "一个图片网址",
    "fetch_timeout_s": "下载一个请求的全部图片",
    "max_redirects": "一个图片网址的重定向次数",
    "max_fetches": "整个服务同时进行的下载",
    "max_running": "正在运行的序列",
    "max_waiting": "等待中的请求",
    "max_waiting_windows": "等待首个 token 的提示词 token 数，以上下文窗口为单位",
    "queue_timeout_s": "排队的时间",
    "total_timeout_s": "总时间，非流式",
    "stream_timeout_s": "总时间，流式",
    "keep_alive_comment_s": "静默多久之后发送保活注释",
    "send_stall_s": "客户端不读取的流",
    "drain_timeout_s": "收到 SIGTERM 之后收尾的时间",
}

WORDS: dict[Language, Words] = {
    "en": Words(
        configuration=_CONFIGURATION,
        installation=_INSTALLATION,
        about_limits=_LIMITS,
        command_line=_CLI,
        sections={"server": "Server", "model": "Model", "media": "Pictures", "client": "Client"},
        colon=": ",
        limits_title="Limits",
        setting_columns="| Setting | Type | Default | What it does |",
        limit_columns="| Limit | Default | Error | What it bounds |",
        option_columns="| Option | What it does |",
        types={
            bool: "true or false", int: "whole number", float: "number", str: "text",
            tuple: "list of texts", Path: "path",
        },
        list_of="list of {}",
        unset="unset",
        limits={},
    ),
    "zh": Words(
        configuration=_CONFIGURATION_ZH,
        installation=_INSTALLATION_ZH,
        about_limits=_LIMITS_ZH,
        command_line=_CLI_ZH,
        sections={"server": "服务", "model": "模型", "media": "图片", "client": "客户端"},
        colon="：",
        limits_title="上限",
        setting_columns="| 设置 | 类型 | 默认值 | 作用 |",
        limit_columns="| 上限 | 默认值 | 错误码 | 限制什么 |",
        option_columns="| 选项 | 作用 |",
        types={
            bool: "true 或 false", int: "整数", float: "数字", str: "文本",
            tuple: "文本列表", Path: "路径",
        },
        list_of="列表：{}",
        unset="不设",
        limits=_LIMITS_BOUND_ZH,
    ),
}  # fmt: skip
