import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sightline.cli import catalogue
from sightline.cli.options import takes_settings
from sightline.cli.terminal import ends_cleanly, note, printable
from sightline.core.errors import StartupError
from sightline.settings import Settings

if TYPE_CHECKING:
    from sightline.cli.answering import Answerer
    from sightline.cli.pictures import Picture

PROMPT = "> "


def register(app: typer.Typer) -> None:
    from sightline.cli.ask import OPTIONS

    @app.command(help=catalogue.text("chat.help"))
    @ends_cleanly
    @takes_settings(*OPTIONS)
    def chat(settings: Settings) -> None:
        from sightline.cli.answering import answerer

        with answerer(settings) as answering:
            note(catalogue.text("chat.welcome", model=answering.model))
            Conversation(answering, settings).run()


@dataclass(slots=True)
class Conversation:
    """What was said so far, and the pictures that the next message will carry."""

    answering: "Answerer"
    settings: Settings
    messages: list[dict[str, Any]] = field(default_factory=list)
    transcript: list[str] = field(default_factory=list)
    pending: list["Picture"] = field(default_factory=list)

    def run(self) -> None:
        """Read lines until the end of input or /exit."""
        if sys.stdin.isatty():
            import readline  # noqa: F401 -- gives input() its line editing
        while True:
            try:
                line = input(PROMPT if sys.stdin.isatty() else "").strip()
            except EOFError:
                return
            if line in ("/exit", "/quit"):
                return
            if line.startswith("/"):
                self.obey(line)
            elif line:
                self.say(line)

    def obey(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        argument = argument.strip()
        if command == "/help":
            note(catalogue.text("chat.commands"))
        elif command == "/clear":
            self.messages.clear()
            self.transcript.clear()
            self.pending.clear()
            note(catalogue.text("chat.cleared"))
        elif command in ("/img", "/save") and not argument:
            note(catalogue.text("chat.wants_argument", command=command))
        elif command == "/img":
            self.add_picture(argument)
        elif command == "/save":
            self.save(Path(argument).expanduser())
        else:
            note(catalogue.text("chat.unknown", command=printable(command)))

    def add_picture(self, argument: str) -> None:
        from sightline.cli.pictures import read_picture

        try:
            picture = read_picture(argument.strip("'\""), self.settings.limits)
        except StartupError as error:
            note(error.message)
            return
        self.pending.append(picture)
        note(catalogue.text("chat.added", name=picture.name))

    def say(self, line: str) -> None:
        """Ask, show the answer, and keep both; a turn that fails or is interrupted is dropped."""
        from sightline.client.errors import ClientError
        from sightline.client.wire import image_part, text_part

        pictures = [image_part(picture.source) for picture in self.pending]
        question = {"role": "user", "content": [*pictures, text_part(line)]}
        try:
            exchange = self.answering.answer([*self.messages, question])
        except KeyboardInterrupt:
            note(catalogue.text("chat.interrupted"))
            return
        except ClientError as error:
            note(printable(str(error)))
            return
        self.messages += [question, {"role": "assistant", "content": exchange.text}]
        shown = [catalogue.text("chat.picture", name=picture.name) for picture in self.pending]
        you = catalogue.text("chat.you")
        self.transcript += [f"{you}: {' '.join([*shown, line])}", exchange.text]
        self.pending.clear()

    def save(self, path: Path) -> None:
        try:
            path.write_text("\n\n".join(self.transcript) + "\n", "utf-8")
        except OSError as error:
            note(catalogue.text("chat.not_saved", path=path, reason=error.strerror))
            return
        note(catalogue.text("chat.saved", path=path))
