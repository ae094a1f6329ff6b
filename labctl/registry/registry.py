"""Finding plugins without importing them, and cards by name."""

from __future__ import annotations

import importlib.util
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

from labctl.errors import PluginError, did_you_mean

from .card import KINDS, Card
from .digest import code_digest

GROUP = "labctl.plugins"
PREFIX = "labctl_plugins"
BUILTIN = "labctl"
"""The plugin that labctl itself is: its own data sets, optimizers, losses and schedules."""

C = TypeVar("C", bound=Card)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that has been found; `cards` come with `Registry.load`."""

    name: str
    origin: str
    """`distribution version`, or the folder it was found in."""
    folder: Path
    module: str
    is_local: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """An imported plugin: its cards, and a digest of its code."""

    plugin: Plugin
    cards: tuple[Card, ...]
    digest: str


def _installed() -> dict[str, Plugin]:
    found: dict[str, Plugin] = {}
    for entry in metadata.entry_points(group=GROUP):
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        if (first := found.get(entry.name)) and first.module != entry.value:
            raise PluginError(
                f"plugin {entry.name!r} is installed twice: by {first.origin} and by {origin}",
                hint="uninstall one of them: pip uninstall NAME",
            )
        found[entry.name] = Plugin(entry.name, origin, Path(), entry.value, is_local=False)
    return found


def _located(plugin: Plugin) -> Plugin:
    """The plugin with the folder that its module lives in."""
    if plugin.is_local:
        return plugin
    try:
        spec = importlib.util.find_spec(plugin.module)
    except Exception as error:
        raise _broken(plugin, error) from error
    if spec is None or spec.origin is None:
        raise PluginError(
            f"plugin {plugin.name!r} of {plugin.origin} names a module that is not there: {plugin.module}",
            hint=f"reinstall it: pip install --force-reinstall {plugin.origin.split()[0]}",
        )
    path = Path(spec.origin)
    folder = path.parent if path.name == "__init__.py" else path
    return Plugin(plugin.name, plugin.origin, folder, plugin.module, is_local=False)


def _broken(plugin: Plugin, error: Exception) -> PluginError:
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if "importlib" not in f.filename and "labctl/registry" not in f.filename]
    where = f"{inside[-1].filename}:{inside[-1].lineno}" if inside else plugin.origin
    return PluginError(
        f"plugin {plugin.name!r} failed to import: {type(error).__name__}: {error}",
        where=where,
        hint=f"mend it, or try it alone: labctl doctor --plugin {plugin.name}",
    )


def _import_folder(plugin: Plugin) -> ModuleType:
    """Import a plugin by its path, as `labctl_plugins.<name>`, without touching `sys.path`."""
    init = plugin.folder / "__init__.py"
    known = sys.modules.get(plugin.module)
    if known is not None and getattr(known, "__file__", None) == str(init):
        return known
    for name in [n for n in sys.modules if n == plugin.module or n.startswith(plugin.module + ".")]:
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        plugin.module, init, submodule_search_locations=[str(plugin.folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[plugin.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[plugin.module]
        raise
    return module


class Registry:
    """The cards of all plugins: installed ones by entry point, the project's own by folder.

    A project's plugin wins over an installed one of the same name, and says so unless `is_quiet`.
    `folders` are searched after one another; each is a folder of plugin folders.
    """

    def __init__(self, *folders: Path, is_quiet: bool = False) -> None:
        self.folders, self.is_quiet = folders, is_quiet
        self._loaded: dict[str, Loaded] = {}

    @cached_property
    def plugins(self) -> dict[str, Plugin]:
        """Every plugin by name, not yet imported."""
        found = _installed()
        for folder in self.folders:
            for init in sorted(folder.glob("*/__init__.py")):
                name = init.parent.name
                here = Plugin(name, str(init.parent), init.parent.resolve(), f"{PREFIX}.{name}", True)
                if name in found and not found[name].is_local:
                    there = _located(found[name])
                    if there.folder.resolve() == here.folder:
                        continue
                    if not self.is_quiet:
                        warnings.warn(
                            f"plugin {name!r}: using {init.parent}, not the installed copy of {there.origin}",
                            stacklevel=2,
                        )
                found[name] = here
        return found

    def load(self, name: str) -> Loaded:
        """Import one plugin. A failure is reported as that plugin's own."""
        if name in self._loaded:
            return self._loaded[name]
        if name not in self.plugins:
            raise PluginError(f"no plugin {name!r}", hint=did_you_mean(name, self.plugins))
        plugin = _located(self.plugins[name])
        try:
            module = _import_folder(plugin) if plugin.is_local else importlib.import_module(plugin.module)
        except Exception as error:
            raise _broken(plugin, error) from error
        cards = getattr(module, "cards", None)
        if not isinstance(cards, tuple) or not all(isinstance(card, KINDS) for card in cards):
            raise PluginError(
                f"plugin {name!r} has no cards",
                where=str(plugin.folder),
                hint="its __init__.py must hold `cards = (Architecture(...), ...)` from labctl.api",
            )
        digest = "builtin" if name == BUILTIN else code_digest(plugin.folder)
        self._loaded[name] = Loaded(plugin, cast("tuple[Card, ...]", cards), digest)
        return self._loaded[name]

    def find(self, kind: type[C], name: str, *, near: Iterable[str] = ()) -> tuple[C, Loaded]:
        """The card `name` of `kind`, and the plugin that brings it.

        Looked for in labctl itself, in the plugin of that name, in the plugins `near` (those that the
        recipe has named already), then in all others, so that nothing is imported without need.

        Raises:
            PluginError: nobody has such a card, or two plugins do.
        """
        tried: set[str] = set()
        for plugin in (BUILTIN, name, *near):
            if plugin in self.plugins and plugin not in tried:
                tried.add(plugin)
                if card := self._card_of(plugin, kind, name):
                    return card, self.load(plugin)
        owners: list[tuple[C, Loaded]] = []
        broken: list[PluginError] = []
        for plugin in self.plugins:
            if plugin in tried:
                continue
            try:
                if card := self._card_of(plugin, kind, name):
                    owners.append((card, self.load(plugin)))
            except PluginError as error:
                broken.append(error)
        if len(owners) == 1:
            return owners[0]
        if owners:
            names = " and ".join(loaded.plugin.origin for _, loaded in owners)
            raise PluginError(f"{kind.kind} {name!r} is defined by {names}", hint="rename one of them")
        hint = did_you_mean(name, [card.name for card, _ in self.cards(kind)])
        for fault in broken:
            hint += f"\n  not searched: {fault.where}: {fault.message}"
        raise PluginError(f"unknown {kind.kind} {name!r}", hint=hint)

    def _card_of(self, plugin: str, kind: type[C], name: str) -> C | None:
        for card in self.load(plugin).cards:
            if isinstance(card, kind) and card.name == name:
                return card
        return None

    def cards(self, kind: type[C]) -> Iterator[tuple[C, Loaded]]:
        """Every card of `kind`; plugins that cannot be imported are left out, see `broken`."""
        for name in self.plugins:
            try:
                loaded = self.load(name)
            except PluginError:
                continue
            for card in loaded.cards:
                if isinstance(card, kind):
                    yield card, loaded

    def broken(self) -> list[PluginError]:
        """Why plugins that were found cannot be imported."""
        errors = []
        for name in self.plugins:
            try:
                self.load(name)
            except PluginError as error:
                errors.append(error)
        return errors
