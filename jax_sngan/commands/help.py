"""What --help says: of a command with a hundred options one screen of those that people use; the rest by word."""

import argparse
import inspect
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jax_sngan.config import other_names
from jax_sngan.config.presets import PRESETS, names, preset
from jax_sngan.config.schema import RunConfig, flatten
from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import own_command, program
from jax_sngan.system.nearest import nearest
from jax_sngan.system.terminal import shown

# The options of a training that people use, by their names in the configs.
COMMON = (
    *("data", "workdir", "steps", "batch_size", "seed", "flip", "loss", "n_dis"),
    *("model.architecture", "model.image_size", "model.channels", "model.num_classes", "model.compute_dtype"),
    *("generator_optimizer.learning_rate", "discriminator_optimizer.learning_rate", "ema_decay"),
    *("log_every", "sample_every", "checkpoint_every", "evaluate_every", "resume", "mesh"),
)
_LEFT = 30  # columns of an option and its value


class HelpParser(argparse.ArgumentParser):
    """argparse whose --help takes a word.

    Attributes:
      presets: whether it takes a preset's name and its options; --help tells of them.
      examples: command lines for --help.
      sections: of options made by add_options: name -> its options; the screen of --help leaves most of them out.
    """

    def __init__(self, *, presets: bool = False, examples: Sequence[str] = (), **kwargs: Any):
        how = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=program(), allow_abbrev=False, formatter_class=how, add_help=False, **kwargs)
        self.presets, self.examples = presets, examples
        self.sections: dict[str, list[argparse.Action]] = {}
        does = "this; with a WORD: the options that have it, or `all`"
        self.add_argument("-h", "--help", action=_Help, nargs="?", metavar="WORD", default=argparse.SUPPRESS, help=does)

    def format_usage(self) -> str:
        """Without each of the options where there are sections of them."""
        if not self.sections:
            return super().format_usage()
        words = [f"[{a.metavar}]" if a.nargs == "?" else str(a.metavar) for a in self._get_positional_actions()]
        return f"usage: {' '.join([self.prog, *words, '[--OPTION VALUE …]'])}\n"

    def format_help(self) -> str:
        """All of it."""
        self.usage = (
            self.format_usage().removeprefix("usage: ").rstrip("\n").replace("%", "%%") if self.sections else None
        )
        return super().format_help()


class _Help(argparse.Action):
    """--help [WORD]: prints and exits."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        """Prints; what WORD may be is in `told`."""
        print(told(parser, values, getattr(namespace, "preset", None)), flush=True)
        parser.exit()


def told(parser: HelpParser, word: str | None, of: str | None) -> str:
    """The text of --help WORD.

    Args:
      word: all, presets, a preset's name, a section, or a word that options are looked for by; None: the screen.
      of: the preset on the command line, whose values are shown as defaults.
    Raises:
      UserError: no preset of that name, or nothing has the word.
    """
    if word == "all" or (word is None and not parser.sections):
        return parser.format_help().rstrip("\n")
    defaults = _defaults(of if parser.presets else None)
    if word is None:
        return _screen(parser, of, defaults)
    if parser.presets and word == "presets":
        width = max(map(len, names()))
        return "\n".join(f"  {name:{width}}  {_about(name).splitlines()[0]}" for name in names())
    if parser.presets and word in PRESETS:
        return _about(word)
    asked = word.lstrip("-").replace("-", "_")
    sections = [s for s in parser.sections if s == asked or s.startswith(f"{asked}.")]
    found = [action for section in sections for action in parser.sections[section]] or _with_word(parser, asked)
    if not found:
        there = f"; there are: all, presets, {', '.join(parser.sections)}" if parser.sections else ""
        raise UserError(f"--help: no option has the word {shown(word)}{there}")
    head = ", ".join(sections) if sections else f"with `{shown(word)}`"
    return "\n".join([f"options of {program()}, {head}:", *lines(found, defaults)])


def lines(actions: Iterable[argparse.Action], defaults: Mapping[str, Any]) -> list[str]:
    """An option each: how it is written, what it is, its choices and its default."""
    width = max(80, min(110, shutil.get_terminal_size().columns))
    told = []
    for action in actions:
        name = action.option_strings[-1] if action.option_strings else ""
        value = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
        left = f"{name} {value or ('NAME' if action.choices else '')}".strip()
        right = (action.help or "").replace("%%", "%")
        if action.choices:
            right += f": {', '.join(map(str, action.choices))}"
        if action.dest in defaults and (default := defaults[action.dest]) not in (None, ""):
            right += f" [{str(default).lower() if isinstance(default, bool) else default}]"
        text = textwrap.wrap(right, width - _LEFT - 4, break_on_hyphens=False) or [""]
        if len(left) > _LEFT:
            told.append(f"  {left}")
            left = ""
        told += [f"  {left if i == 0 else '':{_LEFT}}  {line}" for i, line in enumerate(text)]
    return told


def _screen(parser: HelpParser, of: str | None, defaults: Mapping[str, Any]) -> str:
    in_sections = {action.dest: action for section in parser.sections.values() for action in section}
    own = [a for a in parser._actions if a.dest not in in_sections and not isinstance(a, _Help)]
    common = [in_sections[dest] for dest in COMMON if dest in in_sections] if parser.presets else []
    what = f" (in brackets: what {of or 'fashion'} has)" if common else ""
    found = [parser.format_usage().rstrip("\n"), "", (parser.description or "").strip(), ""]
    if parser.examples:
        found += ["examples:", *(f"  {example}" for example in parser.examples), ""]
    found += [f"options{what}:", *lines([*own, *common], defaults), "", "more of them:"]
    more = {"all": "all options"}
    if parser.presets:
        more = {"presets": "the presets; --help PRESET: what one is, and what to expect of it"} | more
    more |= {"WORD": f"those that have the word, or of a section: {', '.join(parser.sections)}"}
    for word, does in more.items():
        left = f"--help {word}"
        told = textwrap.wrap(does, 80 - 20)
        found += [f"  {left if i == 0 else '':16}  {line}" for i, line in enumerate(told)]
    return "\n".join(found)


def _with_word(parser: HelpParser, word: str) -> list[argparse.Action]:
    """The options that have a word in their name, meaning or choices, or are called so elsewhere."""
    by_name = {option: action for action in parser._actions for option in action.option_strings}
    near = [by_name[name] for name in nearest(word, by_name, other_names.OPTIONS)]
    plain = word.lower()
    rest = []
    for action in parser._actions:
        choices: Sequence[Any] = list(action.choices or ())
        text = " ".join([*action.option_strings, action.dest, action.help or "", *map(str, choices)]).lower()
        if plain in text or plain in text.replace("-", "_"):
            rest.append(action)
    return list(dict.fromkeys(a for a in [*near, *rest] if not isinstance(a, _Help)))


def _defaults(of: str | None) -> dict[str, Any]:
    """Each field of the two configs and its value where the command line does not name it."""
    return flatten(RunConfig()) | flatten(preset(of or "fashion"))


def _about(name: str) -> str:
    """What a preset is, with its command as this one was typed."""
    text = inspect.getdoc(PRESETS[name]) or ""
    return text.replace("python scripts/train_jax.py", own_command("train"))
