"""Finding plugins without importing them, and cards by name."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from labctl.errors import PluginError, did_you_mean

from .card import KINDS, Card, MeasurementCard
from .digest import MEASUREMENTS, code_digest, measurements_digest
from .guard import described, place_of
from .imports import imported_measurement, imported_test

GROUP = "labctl.plugins"
PREFIX = "labctl_plugins"
BUILTIN = "labctl"
"""The plugin that labctl itself is: its own data sets, optimizers, losses and schedules."""
DIGEST = "__labctl_digest__"
"""Attribute of an imported plugin: the digest of the code that it was made of."""

FIRST_PARTS = ("knob", "test", "train", "val")
"""Of metrics that labctl journals itself: no measurement has such a name."""
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
    rivals: tuple[str, ...] = ()
    """Other distributions that install a plugin of this name; then none of them can be loaded."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An imported plugin: its cards, and digests of its code."""

    plugin: Plugin
    cards: tuple[Card, ...]
    digest: str
    """Of what may decide a training."""
    measurements: str = ""
    """Of what is in its `measurements/`; empty if it has none."""


def _installed() -> dict[str, Plugin]:
    found: dict[str, Plugin] = {}
    for entry in metadata.entry_points(group=GROUP):
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        plugin = Plugin(entry.name, origin, Path(), entry.module, is_local=False)
        first = found.get(entry.name, plugin)
        is_rival = first.module != plugin.module
        found[entry.name] = replace(first, rivals=(*first.rivals, origin)) if is_rival else first
    return found


def _located(plugin: Plugin) -> Plugin:
    """The plugin with the folder that its module lives in."""
    if plugin.is_local:
        return plugin
    if plugin.rivals:
        origins = " and by ".join((plugin.origin, *plugin.rivals))
        raise PluginError(
            f"plugin {plugin.name!r} is installed twice: by {origins}",
            hint=f"uninstall one of them: pip uninstall {plugin.rivals[-1].split()[0]}",
        )
    try:
        spec = _spec_of(plugin.module)
    except (Exception, SystemExit) as error:
        raise _broken(plugin, error) from error
    if spec is None or spec.origin is None:
        raise PluginError(
            f"plugin {plugin.name!r} of {plugin.origin} names a module that is not there: "
            f"{plugin.module}",
            hint=f"reinstall it: pip install --force-reinstall {plugin.origin.split()[0]}",
        )
    path = Path(spec.origin)
    return replace(plugin, folder=path.parent if path.name == "__init__.py" else path)


def _spec_of(module: str) -> ModuleSpec | None:
    """Where an import would find `module`, whatever was imported under that name before."""
    known = sys.modules.pop(module, None)
    try:
        return importlib.util.find_spec(module)
    finally:
        if known is not None:
            sys.modules[module] = known


def _broken(plugin: Plugin, error: BaseException) -> PluginError:
    return PluginError(
        f"plugin {plugin.name!r} failed to import: {described(error)}",
        where=place_of(error, plugin.folder if plugin.is_local else None) or plugin.origin,
        hint=f"mend it, or see the whole traceback: labctl doctor --plugin {plugin.name}",
    )


def _import_installed(plugin: Plugin, digest: str) -> ModuleType:
    """Import a plugin by its name; a folder's plugin that has it by now is forgotten, and so is its
    code of before it was edited."""
    spec, module = _spec_of(plugin.module), plugin.module
    if spec is not None and spec.origin is not None and module in sys.modules:
        if _is_from(sys.modules[module], Path(spec.origin)) and _is_as_imported(module, digest):
            return sys.modules[module]
        _forget(module)
    return _dated(importlib.import_module(module), digest)


def _import_folder(plugin: Plugin, digest: str) -> ModuleType:
    """Import a plugin by its path, as `labctl_plugins.<name>`, without touching `sys.path`.

    Where another folder's plugin has that name, this one gets a longer one: both are in use, and
    import what they need of themselves when they need it. Code of before it was edited is
    forgotten.
    """
    init, name = plugin.folder / "__init__.py", plugin.module
    if name in sys.modules and not _is_from(sys.modules[name], init):
        name += f"_{hashlib.sha256(str(plugin.folder).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        if _is_as_imported(name, digest):
            return sys.modules[name]
        _forget(name)
    spec = importlib.util.spec_from_file_location(
        name, init, submodule_search_locations=[str(plugin.folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return _dated(module, digest)


def _dated(module: ModuleType, digest: str) -> ModuleType:
    """The module, which knows from then on which code it was made of."""
    setattr(module, DIGEST, digest)
    return module


def _is_as_imported(module: str, digest: str) -> bool:
    """Whether an imported module's code is still what it was made of, as far as is known."""
    return getattr(sys.modules[module], DIGEST, digest) == digest


def _forget(module: str) -> None:
    """Let the next import of a module and of what is inside it read their files."""
    for name in [n for n in sys.modules if n == module or n.startswith(module + ".")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _is_from(module: ModuleType, file: Path) -> bool:
    return getattr(module, "__file__", None) == str(file)


def _is_at(plugin: Plugin, folder: Path) -> bool:
    """Whether an installed plugin is the one in `folder`, installed from there to be edited."""
    try:
        return _located(plugin).folder.resolve() == folder
    except PluginError:
        return False


def _cards_of(plugin: Plugin, module: ModuleType) -> tuple[Card, ...]:
    cards = getattr(module, "cards", None)
    if not isinstance(cards, tuple) or not all(isinstance(card, KINDS) for card in cards):
        raise PluginError(
            f"plugin {plugin.name!r} has no cards",
            where=str(plugin.folder),
            hint="its __init__.py must hold `cards = (Architecture(...), ...)` from labctl.api",
        )
    names = [f"{card.kind} {card.name!r}" for card in cards]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PluginError(
            f"plugin {plugin.name!r} has two cards for {twice[0]}",
            where=str(plugin.folder),
            hint="rename one of them",
        )
    return cards


def _require_what_is_in_the_key(plugin: Plugin) -> None:
    if found := imported_test(plugin.folder):
        raise PluginError(
            f"plugin {plugin.name!r} imports {found[1]}, which by its name is a test: it would not "
            "be stored with a run, and to change it would change no key",
            where=str(plugin.folder / found[0]),
            hint=f"rename it: {found[1].removeprefix('test_')}.py",
        )
    if file := imported_measurement(plugin.folder, plugin.module):
        raise PluginError(
            f"plugin {plugin.name!r} imports {MEASUREMENTS} where it trains: to change them would "
            "change no key",
            where=str(plugin.folder / file),
            hint=f"move what it needs out of {MEASUREMENTS}/; only that folder and __init__.py "
            "may import it",
        )


class Registry:
    """The cards of all plugins: installed ones by entry point, the project's own by folder.

    A project's plugin wins over an installed one of the same name, and says so unless `is_quiet`.
    `folders` are searched after one another; each is a folder of plugin folders.
    """

    def __init__(self, *folders: Path, is_quiet: bool = False) -> None:
        self.folders, self.is_quiet = folders, is_quiet
        self._loaded: dict[str, Loaded] = {}
        self._broken: dict[str, PluginError] = {}

    @cached_property
    def plugins(self) -> dict[str, Plugin]:
        """Every plugin by name, not yet imported."""
        found = _installed()
        for folder in self.folders:
            for init in sorted(folder.glob("*/__init__.py")):
                here = init.parent.resolve()
                name = init.parent.name
                local = Plugin(name, str(init.parent), here, f"{PREFIX}.{name}", is_local=True)
                if name == BUILTIN:
                    self._notify(
                        f"{init.parent} is left out: {BUILTIN!r} is the name of labctl itself"
                    )
                elif name not in found or found[name].is_local:
                    found[name] = local
                elif not _is_at(found[name], here):
                    origin = found[name].origin
                    self._notify(
                        f"plugin {name!r}: using {init.parent}, not the installed copy of {origin}"
                    )
                    found[name] = local
        return found

    def _notify(self, message: str) -> None:
        if not self.is_quiet:
            warnings.warn(message, stacklevel=3)

    def load(self, name: str) -> Loaded:
        """Import one plugin.

        Raises:
            PluginError: there is none, or it cannot be used, which is reported as its own failure.
        """
        if name in self._loaded:
            return self._loaded[name]
        if name in self._broken:
            raise self._broken[name]
        if name not in self.plugins:
            raise PluginError(f"no plugin {name!r}", hint=did_you_mean(name, self.plugins))
        plugin = _located(self.plugins[name])
        try:
            digest, measurements = "builtin", ""
            if name != BUILTIN:
                digest = code_digest(plugin.folder)
                measurements = measurements_digest(plugin.folder)
            imported = _import_folder if plugin.is_local else _import_installed
            with redirect_stdout(sys.stderr):  # where it prints, standard output may be JSON
                module = imported(plugin, digest + measurements)
        # A plugin that calls sys.exit() while it is imported must not end labctl.
        except (Exception, SystemExit) as error:
            self._broken[name] = _broken(plugin, error)
            raise self._broken[name] from error
        cards = _cards_of(plugin, module)
        if name != BUILTIN:
            _require_what_is_in_the_key(plugin)
            self._require_own_names(plugin, cards)
        self._loaded[name] = Loaded(plugin, cards, digest, measurements)
        return self._loaded[name]

    def _require_own_names(self, plugin: Plugin, cards: Iterable[Card]) -> None:
        """Labctl's own cards are found first: those of the same name would never be. A measurement
        that is called as a split would overwrite its metrics."""
        taken = {(card.kind, card.name) for card in self.load(BUILTIN).cards}
        for card in cards:
            if (card.kind, card.name) in taken:
                message = f"a {card.kind} card {card.name!r}, as labctl has"
            elif isinstance(card, MeasurementCard) and card.name in FIRST_PARTS:
                message = f"a measurement {card.name!r}, and metrics of that name are labctl's"
            else:
                continue
            raise PluginError(
                f"plugin {plugin.name!r} has {message}",
                where=str(plugin.folder),
                hint="give it another name",
            )

    def find(self, kind: type[C], name: str, *, near: Iterable[str] = ()) -> tuple[C, Loaded]:
        """The card `name` of `kind`, and the plugin that brings it.

        Looked for in labctl itself, in the plugin of that name, in the plugins `near` (those that
        the recipe has named already), then in all others: nothing is imported without need.

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
            message = f"{kind.kind} {name!r} is defined by {names}"
            raise PluginError(message, hint="rename one of them")
        hint = did_you_mean(name, [card.name for card, _ in self.cards(kind)])
        for fault in broken:
            hint += f"\n  not searched: {fault.placed}"
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
