"""The sub-commands: those of this package, and those that another one adds.

Another package adds commands by the entry-point group ``ddmseg.commands``: the name is what
a user types, the object a :class:`Command`. Nothing of it is imported before it is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddmseg.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "ddmseg.commands"
LABORATORY = ("compare", "ablate", "study", "bench", "report", "dossier")
"""Commands that the package ddmseg_lab adds: who types one without it is told where it is."""


@dataclass(frozen=True)
class Command:
    """A sub-command.

    Attributes:
        module: with ``Arguments``, the options, and ``run``, which takes them and returns the
            exit code; it raises a DdmsegError when nothing can be done at all.
        group: heading that it stands under in the help.
        example: a whole call of it.
    """

    module: str
    group: str
    summary: str
    example: str


_OURS = {
    "scans and results": {
        "segment": (
            "label brain MRI scans: NIfTI, BIDS or DICOM, files and folders",
            "scan.nii.gz -o out",
        ),
        "bids": (
            "segment a BIDS folder, then make the table and page of its group",
            "study study/derivatives/ddmseg participant",
        ),
        "cohort": (
            "merge results to a page of the group, or write jobs for Slurm",
            "group results -o results",
        ),
        "replay": (
            "segment again as a receipt says: the same labels, or what differs",
            "out/scan_receipt.json",
        ),
        "review": (
            "look at results in the browser: accept, reject or correct them",
            "out --scans .",
        ),
        "evaluate": ("score label maps of any tool against a truth", "out truth -o scores"),
        "monitor": (
            "say whether scans or results have shifted, from a store of runs",
            "runs.db -o shift.html",
        ),
    },
    "training": {
        "train": ("train a model as a TOML file says", "model.toml --data DATA"),
        "distill": ("teach a smaller student", "student.toml --data DATA"),
    },
    "hospital": {
        "dicom-node": (
            "take scans over the DICOM network, segment and send results on",
            "--spool spool -o out --send PACS@127.0.0.1:104",
        ),
        "dicom-send": (
            "send the results of a scan, or their correction, as DICOM",
            "out/scan --send PACS@127.0.0.1:104",
        ),
    },
    "installation": {
        "models": ("list the models at hand with what is known of them", "--lut itk-snap"),
        "export": ("write the image encoder of a model as ONNX or OpenVINO", "anatomy -o encoder"),
        "doctor": ("check this installation", ""),
        "completion": ("print what bash, zsh or fish needs to complete commands", "bash"),
    },
}
"""What each command does and the words of an example, by heading and name."""
COMMANDS = {
    name: Command(
        f"ddmseg.cli.commands.{name.replace('-', '_')}",
        group,
        summary,
        f"ddmseg {name} {words}".rstrip(),
    )
    for group, commands in _OURS.items()
    for name, (summary, words) in commands.items()
}
"""The commands of this package in the order of the help, by name."""


def find_command(name: str) -> Command:
    """Return a command of this package, or one that another package adds.

    Raises:
        UsageError: when there is none of this name, or the package that adds it is broken.
    """
    if name in COMMANDS:
        return COMMANDS[name]
    added = _added()
    if name in added:
        return _load(added[name])
    if name in LABORATORY:
        raise UsageError(
            f"'{name}': a command of the laboratory, which is not installed; in a clone of "
            "ddmseg run pip install --editable ./lab"
        )
    allowed = [*COMMANDS, *added]
    kind = "option" if name.startswith("-") else "command"
    raise UsageError(
        f"'{name}': unknown {kind}{did_you_mean(name, allowed)}; allowed are {', '.join(allowed)}"
    )


def list_commands() -> str:
    """Return all commands under their headings: name and summary, and below them the example."""
    at_hand = commands_at_hand()
    width = max(map(len, at_hand))
    groups: dict[str, list[str]] = {}
    for name, command in at_hand.items():
        lines = groups.setdefault(command.group, [])
        lines += [f"  {name:<{width}}  {command.summary}", f"  {'':<{width}}    {command.example}"]
    return "\n\n".join(f"{group}:\n" + "\n".join(lines) for group, lines in groups.items())


def commands_at_hand() -> dict[str, Command]:
    """Return every command; one that cannot be loaded has no module, and the reason for summary."""
    found = dict(COMMANDS)
    for entry in _added().values():
        try:
            found[entry.name] = _load(entry)
        except UsageError as error:
            found[entry.name] = Command("", "cannot be loaded", str(error), "")
    return found


def _added() -> dict[str, EntryPoint]:
    """Return what other packages add, without names that are taken."""
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINTS)
    return {entry.name: entry for entry in found if entry.name not in COMMANDS}


def _load(entry: EntryPoint) -> Command:
    try:
        command = entry.load()
    except Exception as error:  # another package's code: it may fail in any way
        raise UsageError(
            f"'{entry.name}': {entry.value} cannot be loaded "
            f"({type(error).__name__}: {error}); install the package that adds it again"
        ) from error
    if not isinstance(command, Command):
        raise UsageError(
            f"'{entry.name}': {entry.value} is no command of this version of ddmseg; install "
            "the package that adds it again"
        )
    return command
