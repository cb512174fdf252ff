"""The command line in the reader's language: `--lang` on every command, help texts translated when they are shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any

import typer

from assessor.errors import UsageError, nearest
from assessor.messages import LANGUAGES, SOURCE, _, retold, use

VARIABLE = "ASSESSOR_LANG"
CONSTANTS = (
    "ARGUMENTS_PANEL_TITLE",
    "OPTIONS_PANEL_TITLE",
    "COMMANDS_PANEL_TITLE",
    "DEFAULT_STRING",
    "ENVVAR_STRING",
    "REQUIRED_LONG_STRING",
)
"""Words around help texts, which Typer keeps as constants of a module."""
USAGE, HELP = "Usage: ", "Show this message and exit."
_TEXTS = ("help", "prompt")  # attributes of commands and options that people see


def choose(arguments: Sequence[str]) -> None:
    """Speak the language that the arguments or ASSESSOR_LANG ask for; before any help text is made.

    Args:
        arguments: Of the command line.

    Raises:
        UsageError: There is no such language.
    """
    asked = os.environ.get(VARIABLE, "") or SOURCE
    source = VARIABLE
    for index, word in enumerate(arguments):
        if word == "--":
            break
        if word == "--lang" and index + 1 < len(arguments):
            asked, source = arguments[index + 1], "--lang"
        elif word.startswith("--lang="):
            asked, source = word.removeprefix("--lang="), "--lang"
    if asked not in LANGUAGES:
        raise UsageError(f"{source}: found '{asked}', wanted one of {', '.join(LANGUAGES)}{nearest(asked, LANGUAGES)}")
    use(asked)


def localised(app: typer.Typer) -> Any:
    """The command of an app with `--lang` everywhere and its texts in the language in use.

    Args:
        app: The whole command line.

    Returns:
        What Typer runs.
    """
    root = typer.main.get_command(app)
    for command in every(root):
        command.params.append(_option())
        for thing in (command, *command.params):
            for name in _TEXTS:
                if isinstance(getattr(thing, name, None), str):
                    setattr(thing, name, _(getattr(thing, name)))
        command.get_usage = _then(command.get_usage, lambda usage: usage.replace(USAGE, _(USAGE), 1))
        command.get_help_option = _then(command.get_help_option, _helping)
    _rich().update({name: _(text) for name, text in _constants().items()})
    return root


def complaint(fault: Exception) -> str | None:
    """What Typer says of wrong arguments, in the language in use.

    Args:
        fault: Whatever it raised.

    Returns:
        The sentence with a hint at the help; None for faults of another kind.
    """
    told = getattr(fault, "format_message", None)
    if told is None:
        return None
    context = getattr(fault, "ctx", None)
    if type(fault).__name__ == "NoArgsIsHelpError":  # the help was printed when the fault was made
        return ""
    hint = "\n" + _("see  {command} --help", command=context.command_path) if context else ""
    return retold(str(told()).replace("Value error, ", "").replace("Input should be ", "wanted ")) + hint


def every(command: Any) -> Iterator[Any]:
    """A command and all commands below it."""
    yield command
    for name in sorted(getattr(command, "commands", {})):
        yield from every(command.commands[name])


def help_texts(app: typer.Typer) -> tuple[str, ...]:
    """Every text that `--help` can show, in English, each once.

    Args:
        app: The whole command line.

    Returns:
        The texts, in order.
    """
    found = [*_constants().values(), USAGE, HELP, str(_option().help)]
    for command in every(typer.main.get_command(app)):
        for thing in (command, *command.params):
            found += [text for name in _TEXTS if isinstance(text := getattr(thing, name, None), str)]
    return tuple(dict.fromkeys(found))


def _lang(
    lang: Annotated[
        str | None,
        typer.Option("--lang", metavar="en|de", help="Language of texts; default: ASSESSOR_LANG, else en."),
    ] = None,
) -> None:
    """Hold the option that every command gets."""


def _option() -> Any:
    holder = typer.Typer(add_completion=False)
    holder.command()(_lang)
    option = typer.main.get_command(holder).params[0]
    option.expose_value = False
    return option


def _rich() -> dict[str, Any]:
    import typer.rich_utils

    return typer.rich_utils.__dict__


@lru_cache
def _constants() -> dict[str, str]:
    """The words around help texts as they were before any was translated."""
    rich = _rich()
    return {name: rich[name] for name in CONSTANTS if isinstance(rich.get(name), str)}


def _then(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *arguments: change(function(*arguments))


def _helping(option: Any) -> Any:
    """The option --help, which every command makes for itself when it is first asked for."""
    if option is not None:
        option.help = _(HELP)
    return option
