"""`sightline doctor`: what keeps this machine from answering, and the exact remedy."""

from typing import Annotated

import typer

from sightline.cli import catalogue
from sightline.cli.options import takes_settings
from sightline.cli.terminal import EXIT_FAILED, ends_cleanly, print_json
from sightline.settings import Settings


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("doctor.help"))
    @ends_cleanly
    @takes_settings("host", "port", "device", "offline")
    def doctor(
        settings: Settings,
        as_json: Annotated[
            bool, typer.Option("--json", help=catalogue.text("doctor.json"))
        ] = False,
        self_test: Annotated[bool, typer.Option(help=catalogue.text("doctor.self_test"))] = True,
    ) -> None:
        from sightline.cli.doctor.examination import examine
        from sightline.cli.doctor.report import as_object, shown

        findings = []
        for finding in examine(settings, self_test=self_test):
            findings.append(finding)
            if not as_json:
                print(shown(finding), flush=True)
        if as_json:
            print_json(as_object(findings))
        else:
            is_broken = any(finding.level == "broken" for finding in findings)
            print(catalogue.text("doctor.verdict.broken" if is_broken else "doctor.verdict.ok"))
        if any(finding.level == "broken" for finding in findings):
            raise SystemExit(EXIT_FAILED)
