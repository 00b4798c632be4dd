"""The roster: which engine of the fleet is which one of the settings, and how the fleet changes while the server runs.

It changes when the settings are read again and when the operator says so. A reload changes what differs from the
settings before, and nothing else: what was said by word stays until the server ends. All that may be wrong is found
before anything changes. Embedded engines are loaded at a start only; they may leave at any time. Knows no asks.
"""

from __future__ import annotations

import asyncio
import difflib
from contextlib import AsyncExitStack

from msgspec import Struct

from standpipe.app.engines import Kind, Wanted, check_keys, connect, place, read_engine, read_engines, unlike
from standpipe.engine_tables import EngineTable
from standpipe.engines.fleet import Fleet
from standpipe.engines.member import Member
from standpipe.observe.log import Logger
from standpipe.settings import Settings, SettingsError


class Plan(Struct):
    """What a reload will do. `changed` and `drained` are engines that are here, `joining` others."""

    wanted: list[Wanted]
    joining: list[tuple[Wanted, Member]]
    changed: list[tuple[Member, Wanted, Member]]
    drained: list[tuple[Member, Wanted]]
    leaving: list[Member]
    opened: AsyncExitStack
    """Closes what was opened for it, where it is not carried out."""


class Roster:
    """Changes the fleet. `settings` are those that the fleet was opened with; `lock` keeps changes apart."""

    def __init__(self, fleet: Fleet, settings: Settings, log: Logger) -> None:
        self._fleet = fleet
        self._settings = settings
        self._log = log
        self._file = read_engines(settings)
        """The engines of the settings as they were last read."""
        self._known: dict[Member, Wanted] = dict(zip(fleet.members, self._file, strict=False))
        self.lock = asyncio.Lock()
        fleet.on_left = self._left

    # What the settings say

    async def plan(self, settings: Settings) -> Plan:
        """What has to change so that these settings count. Engines that are new have been asked what they serve.
        Raises SettingsError naming the table and the key, and has changed nothing then."""
        wanted = read_engines(settings)
        if self._file and not wanted:
            raise SettingsError("engine is empty, and an engine is looked for at a start only; restart for that")
        former = {one.identity: one for one in self._file}
        here = {self._known[member].identity: member for member in self._fleet.members if member in self._known}
        async with AsyncExitStack() as opened:
            plan = Plan(wanted, [], [], [], [], opened)
            for one in wanted:
                was, member = former.get(one.identity), here.get(one.identity)
                if was is not None and not was.changes(one):
                    continue
                if member is None:
                    plan.joining.append((one, self._new(one, settings, opened)))
                elif set(self._known[member].changes(one)) <= {"drain"}:
                    plan.drained.append((member, one))
                else:
                    plan.changed.append((member, one, self._anew(member, one, settings, opened)))
            kept = {one.identity for one in wanted}
            gone = [member for identity, member in here.items() if identity in former.keys() - kept]
            if not self._file and wanted:  # what was found at the start, because nothing was named
                gone += [member for member in self._fleet.members if member not in self._known]
            plan.leaving.extend(gone)
            if not plan.joining and all(member.leaving or member in gone for member in self._fleet.members):
                raise SettingsError("engine would leave no engine")
            await _ask(*(fresh for *_, fresh in plan.changed), *(fresh for _, fresh in plan.joining))
            plan.opened = opened.pop_all()
            return plan

    def carry_out(self, plan: Plan, settings: Settings) -> None:
        """Go by a plan from now on. Nothing can fail."""
        self._settings, self._file = settings, plan.wanted
        for member, one, fresh in plan.changed:
            self._change(member, one, fresh)
        for member, one in plan.drained:
            self._known[member] = one
            self._drain(member, drain=one.drain, by="SIGHUP")
        for one, fresh in plan.joining:
            self._join(one, fresh, by="SIGHUP")
        for member in plan.leaving:
            self._leave(member, by="SIGHUP")

    def _new(self, one: Wanted, settings: Settings, opened: AsyncExitStack) -> Member:
        if one.named.kind is Kind.EMBEDDED:
            raise SettingsError(f"{one.which}: an embedded engine is loaded at a start only; restart to add it")
        try:
            engine, _ = connect(one, settings, self._log.say)
        except ValueError as error:
            raise SettingsError(f"{one.which}: {error}") from error
        opened.push_async_callback(engine.close)
        return Member(engine)

    def _anew(self, member: Member, one: Wanted, settings: Settings, opened: AsyncExitStack) -> Member:
        """What a member is to become."""
        if one.named.kind is not Kind.EMBEDDED:
            return self._new(one, settings, opened)
        fixed = {"url", "slots"} & set(self._known[member].changes(one))
        if fixed or one.table is None:
            keys = " and ".join(sorted(fixed)) or "what it is"
            raise SettingsError(f"{one.which}: {keys} of an embedded engine counts at a start only; restart for that")
        return Member(place(member.engine, one, settings))

    def _change(self, member: Member, one: Wanted, fresh: Member) -> None:
        fresh.engine.name = member.engine.name
        keys = self._known[member].changes(one)
        self._known[member] = one
        if member.leaving is not None:
            self._fleet.resume(member)
        self._fleet.change(member, fresh, close=one.named.kind is not Kind.EMBEDDED)
        self._log.info("engine changed", engine=member.engine.name, changed=" ".join(keys), by="SIGHUP")

    # What the operator says

    async def add(self, one: str | EngineTable, by: str) -> Member:
        """Another engine, from now on. Raises SettingsError."""
        async with self.lock, AsyncExitStack() as opened:
            wanted = read_engine(one, "the engine")
            known = [self._known[member] for member in self._fleet.members if member in self._known]
            for member in self._fleet.members:
                same = member in self._known and self._known[member].identity == wanted.identity
                if same or member.engine.name == wanted.identity:
                    hint = "it is leaving; resume it to keep it" if member.leaving else "give the other one a name"
                    raise SettingsError(f"{member.engine.name} is here already: {hint}")
            check_keys([*known, wanted], self._settings)
            fresh = self._new(wanted, self._settings, opened)
            await _ask(fresh)
            opened.pop_all()
            self._join(wanted, fresh, by)
            return fresh

    def drain(self, name: str, by: str) -> None:
        """Give an engine nothing new. Raises SettingsError where none has this name, as all that follow."""
        self._drain(self._named(name), drain=True, by=by)

    def resume(self, name: str, by: str) -> None:
        """Give an engine asks again, also one that was leaving."""
        self._drain(self._named(name), drain=False, by=by)

    def remove(self, name: str, by: str) -> None:
        """Drain an engine, and let go of it when it is empty."""
        member = self._named(name)
        if all(other.leaving for other in self._fleet.members if other is not member):
            raise SettingsError(f"{name} is the last engine: add another one first, or drain it")
        self._leave(member, by)

    def given(self) -> list[tuple[str, str | EngineTable]]:
        """The engines that are named, by what they are called here and as the operator gave them."""
        known = self._known
        return [(member.engine.name, known[member].given) for member in self._fleet.members if member in known]

    def url(self, member: Member) -> str:
        """Where an engine is, without credentials; empty where that is not known."""
        one = self._known.get(member)
        return "" if one is None else one.named.address

    def _named(self, name: str) -> Member:
        names = {member.engine.name: member for member in self._fleet.members}
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
            raise SettingsError(f"no engine is called {name}: {meant}")
        return names[name]

    # What both do

    def _join(self, one: Wanted, fresh: Member, by: str) -> None:
        fresh.engine.name = unlike(fresh.engine.name, {member.engine.name for member in self._fleet.members})
        self._known[fresh] = one
        self._fleet.join(fresh)
        self._log.info("engine added", engine=fresh.engine.name, slots=fresh.engine.slots, by=by)

    def _drain(self, member: Member, *, drain: bool, by: str) -> None:
        (self._fleet.drain if drain else self._fleet.resume)(member)
        self._log.info("engine drains" if drain else "engine gets requests again", engine=member.engine.name, by=by)

    def _leave(self, member: Member, by: str) -> None:
        self._fleet.leave(member)
        self._log.info("engine drains and will be removed", engine=member.engine.name, running=member.busy, by=by)

    def _left(self, member: Member) -> None:
        self._known.pop(member, None)
        self._log.info("engine removed", engine=member.engine.name)


async def _ask(*fresh: Member) -> None:
    """Ask engines that are about to join for their health and models, so that none is given what it does not serve."""
    await asyncio.gather(*(member.refresh() for member in fresh))
