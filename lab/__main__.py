"""The command line: python -m lab."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lab.layout import LabError, default_dir
from lab.release import RELEASES

LAB_IS_DOWN = 3


class Commands(click.Group):
    """The commands of this module, and `populate`, which is loaded only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, `populate` among them."""
        return sorted([*super().list_commands(ctx), "populate"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command by its name."""
        if cmd_name != "populate":
            return super().get_command(ctx, cmd_name)
        from lab.populate import command

        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_dir,
    show_default="$PUMPHOUSE_LAB_DIR, else in the user's cache",
    help="The lab's directory; each directory is a lab of its own.",
)
@click.pass_context
def main(context: click.Context, directory: Path) -> None:
    """Two real OpenStack clouds on this machine, for trying Pumphouse out and for its tests."""
    context.obj = directory.expanduser().absolute()


@main.command()
@click.option(
    "--port-base", type=click.IntRange(1024, 65000), help="The first of twelve ports; free ones by default."
)
@click.option(
    "--source-release", type=click.Choice(list(RELEASES)), help="Of a source that is made; newest by default."
)
@click.option(
    "--destination-release", type=click.Choice(list(RELEASES)), help="Of a destination that is made."
)
@click.pass_obj
def up(directory: Path, port_base: int | None, **releases: str | None) -> None:
    """Make and start both clouds."""
    from lab import Lab

    lab = Lab(directory)
    named = {name.removesuffix("_release"): release for name, release in releases.items() if release}
    already = "" if lab.up(port_base, named) else " already"
    click.echo(f"the lab is up{already}; its clouds are described in {lab.clouds_yaml}")


@main.command()
@click.option("--purge", is_flag=True, help="Remove the lab's directory with all that is in its clouds.")
@click.pass_obj
def down(directory: Path, purge: bool) -> None:
    """End all processes of both clouds."""
    from lab import Lab

    ended = Lab(directory).down(purge)
    click.echo(f"ended {ended} processes" + (f" and removed {directory}" if purge else ""))


@main.command()
@click.pass_obj
def status(directory: Path) -> None:
    """Show every service; exit code 3 if one does not run."""
    from lab import Lab

    rows = Lab(directory).status()
    for cloud, name, process in rows:
        port = str(cloud.ports.get(name, "-"))
        if process is None:
            click.echo(f"{cloud.name:12} {name:10} {port:>6} {'-':>8}  down")
        else:
            memory_mib = process.memory_info().rss // 2**20
            click.echo(f"{cloud.name:12} {name:10} {port:>6} {process.pid:>8}  up {memory_mib:>6} MiB")
    if not all(process for _, _, process in rows):
        sys.exit(LAB_IS_DOWN)


@main.command()
@click.pass_obj
def reset(directory: Path) -> None:
    """Put both clouds back to what they were when they were made."""
    from lab import Lab

    Lab(directory).reset()


@main.command()
@click.pass_obj
def clouds(directory: Path) -> None:
    """Say where both clouds' credentials are and how to use them."""
    from lab import Lab

    lab = Lab(directory)
    lab.clouds()
    click.echo(lab.clouds_yaml)
    click.echo(f"use it with: export OS_CLIENT_CONFIG_FILE={lab.clouds_yaml} OS_CLOUD=source", err=True)


def run() -> None:
    """Run the command line; what its user has to know is one message, without a traceback."""
    try:
        main(prog_name="python -m lab")
    except (LabError, OSError) as error:
        click.echo(f"lab: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
