"""Let other people's clients judge a running server, and write what they found.

    python scripts/judges.py            # all judges; fails if docs/compatibility.md is stale
    python scripts/judges.py --write    # and writes the table
    python scripts/judges.py --write official/judge_dify.py    # asks one, keeps the others
    python scripts/judges.py official/judge_dify.py -k vision

Each folder of tests/judges has an environment of its own under .judges/, built when its list of
requirements changes: some clients cannot live together. Called by `./test --e2e`.
"""

import argparse
import ast
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JUDGES = ROOT / "tests" / "judges"
ENVIRONMENTS = ROOT / ".judges"
RESULTS = ENVIRONMENTS / "results.json"
TABLE = ROOT / "docs" / "compatibility.md"
PYTHON_FOLDERS = ("official", "routers")
MODEL = "glm-4v"

HEAD = """\
# Compatibility

Other people's clients, unmodified, against the server with its bundled model. The table is written
by `python scripts/judges.py --write` from the results of a run; `./test --e2e` fails when it is
stale. The judges are in `tests/judges/`; a result that is no `yes` says why.
"""


@dataclass
class Judge:
    """One client: its file below tests/judges, what it is called, and what it found."""

    file: str
    title: str
    package: str | None
    version: str = ""
    results: dict[str, str] = field(default_factory=dict)

    @property
    def num_passed(self) -> int:
        return sum(result == "yes" for result in self.results.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--url", help="a server that runs already; its key is in JUDGED_KEY")
    arguments, rest = parser.parse_known_args()
    judges: list[Judge] = []
    with contextlib.ExitStack() as resources:
        environ = resources.enter_context(_judged_server(arguments.url))
        for folder in PYTHON_FOLDERS:
            if not rest or rest[0].startswith(folder):
                judges += _run_python(folder, rest, environ)
        if (not rest or rest[0].startswith("node")) and shutil.which("npm"):
            judges += _run_node(environ)
    for judge in judges:
        print(f"{judge.title:<40} {judge.version:<10} {judge.num_passed} of {len(judge.results)}")
        for name, result in judge.results.items():
            if result != "yes":
                print(f"    {name}: {result}")
    has_failed = any(r == "no" for judge in judges for r in judge.results.values())
    if any(not (JUDGES / path).exists() for path in rest):
        return has_failed  # a choice of tests tells nothing of the others
    judges = _with_the_last_of_others(judges)
    if rest and not arguments.write:
        return has_failed
    text = "\n".join(_table(judges))
    if arguments.write:
        TABLE.write_text(text, "utf-8")
    elif not TABLE.exists() or TABLE.read_text("utf-8") != text:
        print("docs/compatibility.md is stale: run python scripts/judges.py --write")
        return 1
    return has_failed


def _with_the_last_of_others(judges: list[Judge]) -> list[Judge]:
    """Return all judges: these, and what the others found when they were asked last."""
    found = {}
    if RESULTS.exists():
        found = {row["file"]: Judge(**row) for row in json.loads(RESULTS.read_text("utf-8"))}
    found |= {judge.file: judge for judge in judges}
    known = [found[file] for file in sorted(found) if (JUDGES / file).exists()]
    RESULTS.write_text(json.dumps([asdict(judge) for judge in known]), "utf-8")
    return known


@contextlib.contextmanager
def _judged_server(url: str | None) -> Iterator[dict[str, str]]:
    """Start the server with the bundled model; yield the environment that judges need."""
    environ = dict(os.environ, JUDGED_MODEL=os.environ.get("JUDGED_MODEL", MODEL))
    environ["JUDGE_PICTURE"] = str(ROOT / "examples" / "circle.png")
    # Clients that report home, or look for proxies, are told not to.
    environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGCHAIN_TRACING_V2": "false"}
    environ |= {"NO_PROXY": "127.0.0.1,localhost", "ANONYMIZED_TELEMETRY": "False"}
    if url is not None:
        yield environ | {"JUDGED_URL": url}
        return
    key = "sl-" + secrets.token_urlsafe(16)
    command = [sys.executable, "-m", "sightline", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environ, SIGHTLINE_API_KEY=key, SIGHTLINE_LANG="en", XDG_CONFIG_HOME=folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            found = re.search(r"at (http://\S+)", process.stdout.readline())
            if found is None:
                raise SystemExit("judges: the server did not start")
            yield environ | {"JUDGED_URL": found[1], "JUDGED_KEY": key}
        finally:
            process.terminate()
            process.wait(60)


def _run_python(folder: str, rest: list[str], environ: dict[str, str]) -> list[Judge]:
    home = ENVIRONMENTS / folder
    requirements = JUDGES / folder / "requirements.txt"
    python = home / "bin" / "python"
    if _is_stale(home, requirements):
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        subprocess.run([*pip, "--requirement", requirements], check=True)
        _mark(home, requirements)
    judges = [_python_judge(path) for path in sorted((JUDGES / folder).glob("judge_*.py"))]
    report = home / "report.xml"
    report.unlink(missing_ok=True)
    chosen = rest or [folder]
    # Run beside the folder's files: pytest needs no package of the project.
    command = [python, "-m", "pytest", "-c", "pytest.ini", "-q", "--junitxml", report, *chosen]
    subprocess.run(command, cwd=JUDGES, env=environ, check=False)
    if report.exists():
        _collect(judges, report)
    lines = [line.split("==") for line in requirements.read_text().splitlines() if "==" in line]
    versions = {name: version for name, version in lines}
    for judge in judges:
        judge.version = versions.get(judge.package or "", "")
    return [judge for judge in judges if judge.results]


def _python_judge(path: Path) -> Judge:
    tree = ast.parse(path.read_text("utf-8"))
    values = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PACKAGE"
    ]
    title = (ast.get_docstring(tree) or path.stem).strip()
    return Judge(str(path.relative_to(JUDGES)), title, values[0] if values else None)


def _collect(judges: list[Judge], report: Path) -> None:
    """Read JUnit's XML; a skipped or expected failure says why."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        module = case.get("classname", "").split(".")
        judge = next((j for j in judges if Path(j.file).stem in module), None)
        if judge is None:
            continue
        name = re.sub(r"\[.*", "", case.get("name", "")).removeprefix("test_").replace("_", " ")
        result = "yes"
        if case.find("failure") is not None or case.find("error") is not None:
            result = "no"
        elif (skipped := case.find("skipped")) is not None:
            reason = (skipped.get("message") or "").splitlines()[0].removeprefix("[NOTRUN] ")
            result = f"not asked: {reason[:120]}"
        before = judge.results.get(name)
        if before in (None, "yes") or result == "no":
            judge.results[name] = result


def _run_node(environ: dict[str, str]) -> list[Judge]:
    home = ENVIRONMENTS / "node"
    package = JUDGES / "node" / "package.json"
    if _is_stale(home, package):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        shutil.copy(package, home)
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=home, check=True
        )
        _mark(home, package)
    judges = []
    for path in sorted((JUDGES / "node").glob("*.test.mjs")):
        title = path.read_text("utf-8").splitlines()[0].removeprefix("// ")
        judge = Judge(str(path.relative_to(JUDGES)), title, title.partition(" ")[0])
        # Modules are looked for beside the file that imports them.
        shutil.copy(path, home)
        report = home / "report.xml"
        command = [
            "node",
            "--test",
            "--test-reporter=junit",
            f"--test-reporter-destination={report}",
        ]
        subprocess.run([*command, path.name], cwd=home, env=environ, check=False)
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            failed = case.find("failure") is not None
            judge.results[case.get("name", "")] = "no" if failed else "yes"
            if failed:
                print(f"{title}: {case.get('name')}: {case.find('failure').get('message')}"[:600])
        judge.version = _node_version(package, judge.package or "")
        judges.append(judge)
    return judges


def _node_version(package: Path, name: str) -> str:
    found = re.search(rf'"{re.escape(name)}": "([^"]+)"', package.read_text("utf-8"))
    return found[1] if found else ""


def _is_stale(home: Path, requirements: Path) -> bool:
    stamp = home / ".stamp"
    return not stamp.exists() or stamp.read_text() != _digest(requirements)


def _mark(home: Path, requirements: Path) -> None:
    (home / ".stamp").write_text(_digest(requirements))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _table(judges: list[Judge]) -> Iterator[str]:
    yield HEAD
    yield "| client | version | passed |"
    yield "|---|---|---|"
    for judge in judges:
        yield f"| {judge.title} | {judge.version} | {judge.num_passed} of {len(judge.results)} |"
    for judge in judges:
        yield ""
        yield f"## {judge.title}\n"
        yield "| what | works |"
        yield "|---|---|"
        yield from (f"| {name} | {result} |" for name, result in sorted(judge.results.items()))
    yield ""


if __name__ == "__main__":
    sys.exit(main())
