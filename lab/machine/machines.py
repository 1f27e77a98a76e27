"""All machines below a root: made, found, started, ended and removed; the library's front door for guests from images.

A machine that is said to run and has no keeper any more is put away by whoever looks at it next: what is left of it is
killed, and its state says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lab.container.image.store import ImageStore
from lab.container.names import Names, new_id
from lab.container.options.run import RunOptions
from lab.container.spec.image import ExecutionConfig
from lab.container.volumes.model import MountPoint
from lab.errors import DomainError, LabError, NoSuchContainer, NoSuchMachine, SpecError, StateConflict
from lab.linux import command
from lab.machine import directories, link, root_disk
from lab.machine.hardware import with_free_ports
from lab.machine.plan import plan_forwards, plan_process
from lab.machine.record import (
    MEMORY,
    ROOT_DISK,
    SNAPSHOTS,
    MachineRecord,
    MachineSpec,
    MachineState,
    MachineStatus,
    load_record,
    load_state,
    save_record,
    save_state,
)
from lab.paths import Paths
from lab.units import NS_PER_S

_KILLED = 137
_READ_BYTES = 65536
_END_S = 15.0
_ABANDONED_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine as it is now."""

    name: str
    record: MachineRecord
    state: MachineState
    directory: str
    run_directory: str

    @property
    def id(self) -> str:
        """Its id."""
        return self.record.id

    @property
    def is_running(self) -> bool:
        """Whether its guest runs."""
        return self.state.status is MachineStatus.RUNNING


class Machines:
    """The machines of one root."""

    def __init__(self, paths: Paths) -> None:
        """Nothing is made before the first machine; what killed commands have left is removed now."""
        self.paths = paths
        self._names = Names(paths.machines)
        directories.sweep(paths)

    # -- finding -------------------------------------------------------------------------------------------------------

    def find(self, reference: str) -> str:
        """Return the id that is meant by a name, an id, or the beginning of one.

        Raises:
            NoSuchMachine: none is, or more than one.
        """
        try:
            return self._names.resolve(reference, directories.all_ids(self.paths))
        except NoSuchContainer as error:
            text = str(error).replace("No such container", "no such machine")
            raise NoSuchMachine(text, hint="lab vm ls -a") from error

    def get(self, reference: str) -> Machine:
        """Return a machine, after putting away what its killed keeper has left.

        Raises:
            NoSuchMachine: there is none.
        """
        machine_id = self.find(reference)
        try:
            return self._load(machine_id)
        except FileNotFoundError as error:  # it has just gone
            raise NoSuchMachine(f"no such machine: {reference}", hint="lab vm ls -a") from error

    def all(self) -> tuple[Machine, ...]:
        """Return all machines, the newest first."""
        found = []
        for machine_id in directories.all_ids(self.paths):
            with contextlib.suppress(FileNotFoundError):  # it has just gone
                found.append(self._load(machine_id))
        return tuple(sorted(found, key=lambda machine: -machine.record.created_ns))

    def _load(self, machine_id: str) -> Machine:
        path = directories.directory(self.paths, machine_id)
        record = load_record(path)
        state = load_state(path)
        if state.status is MachineStatus.RUNNING:
            state = self._repaired(record, state)
        elif state.status is MachineStatus.CREATED and record.options.removes:
            self._remove_abandoned(record)
        return Machine(
            name=self._names.of(machine_id) or record.domain,
            record=record,
            state=state,
            directory=path,
            run_directory=directories.run_directory(self.paths, machine_id),
        )

    def _repaired(self, record: MachineRecord, state: MachineState) -> MachineState:
        """Return the state of a machine that is said to run; one without keeper is put away.

        Raises:
            FileNotFoundError: it was to go with its end, and has gone now.
        """
        path = directories.directory(self.paths, record.id)
        with directories.unkept(path) as is_unkept:
            if not is_unkept:
                return state
            state = load_state(path)  # its keeper may just have ended in order
            if state.status is not MachineStatus.RUNNING:
                return state
            self._kill(record)
            state = replace(
                state,
                status=MachineStatus.EXITED,
                ended_ns=time.time_ns(),
                exit_code=_KILLED,
                reason="its keeper was killed",
                vmm_pid=0,
            )
            save_state(path, state)
        if record.options.removes:
            directories.remove(self.paths, record)
            raise FileNotFoundError(2, "it was to be removed when it ended", path)
        return state

    def _remove_abandoned(self, record: MachineRecord) -> None:
        """Remove a machine that was to be started at once and to go with its end, if its maker was killed before that.

        Raises:
            FileNotFoundError: it has gone now.
        """
        if time.time_ns() - record.created_ns < _ABANDONED_NS:
            return
        path = directories.directory(self.paths, record.id)
        with directories.unkept(path) as is_unkept:
            if is_unkept:
                directories.remove(self.paths, record)
                raise FileNotFoundError(2, "whoever made it was killed", path)

    def _kill(self, record: MachineRecord) -> None:
        """Remove what a killed keeper has left: QEMU, what served it, its sockets."""
        if record.spec.connect:
            from lab.vm import domains  # only machines of daemons need it

            with contextlib.suppress(LabError):
                domains.open_domains(self.paths, record.spec.connect).destroy(record.domain)
        directories.kill_cgroup(record.id)
        directories.clear_run_directory(directories.run_directory(self.paths, record.id))

    # -- making --------------------------------------------------------------------------------------------------------

    def create(self, options: RunOptions, spec: MachineSpec, *, name: str = "", environ: Mapping[str, str]) -> str:
        """Make a machine, and return its id; nothing runs.

        Raises:
            ImageNotFound: there is no such image.
            SpecError: an option is wrong.
            StateConflict: the name is taken.
            DomainError, UnavailableError: its disk cannot be made.
        """
        images = ImageStore.open(self.paths)
        with images.content_shared():
            image = images.resolve(options.image)
            layers = images.layer_directories(image.manifest_digest)
            machine_id = new_id()
            process = plan_process(
                machine_id,
                options,
                image.config.config,
                passwd=root_disk.file_in_layers(layers, "etc/passwd"),
                group=root_disk.file_in_layers(layers, "etc/group"),
                environ=environ,
            )
            forwards = plan_forwards(options, spec.network)
            template = root_disk.ensure_template(self.paths, image.manifest_digest)
            record = MachineRecord(
                id=machine_id,
                created_ns=time.time_ns(),
                options=options,
                digest=image.manifest_digest,
                image_id=image.config_digest,
                spec=spec,
                process=process,
                forwards=with_free_ports(forwards),
                stop_timeout_s=10 if options.stop_timeout_s is None else options.stop_timeout_s,
            )
            self._lay_out(record, template, layers, name)
        return machine_id

    def _lay_out(self, record: MachineRecord, template: str, layers: tuple[str, ...], name: str) -> None:
        os.makedirs(self.paths.machines, mode=0o711, exist_ok=True)
        building = directories.unfinished(self.paths, record.id)
        os.mkdir(building, 0o700)
        try:
            if record.options.volumes:
                record = replace(record, volumes=self._volumes(record.options, layers))
            save_record(building, record)
            save_state(building, MachineState())
            root_disk.make_root(template, os.path.join(building, ROOT_DISK))
            self._name(record.id, name)
            os.rename(building, directories.directory(self.paths, record.id))
        except BaseException:
            if record.volumes:
                directories.remove_volumes(self.paths, record)
            shutil.rmtree(building, ignore_errors=True)
            self._names.release(record.id)
            raise

    def _name(self, machine_id: str, name: str) -> None:
        if not name:
            self._names.claim_any(machine_id)
            return
        try:
            self._names.claim(name, machine_id)
        except SpecError as error:
            raise SpecError(str(error).replace("container", "machine"), hint=error.hint) from error
        except StateConflict as error:
            raise StateConflict(f"the name {name} is already in use by another machine", hint="lab vm ls -a") from error

    def _volumes(self, options: RunOptions, layers: tuple[str, ...]) -> tuple[MountPoint, ...]:
        from lab.container import starting  # few machines have any
        from lab.container.volumes import making

        starting.make_sources(options)
        # volumes that the image declares are none of a guest's: its disk is its own anyway, and outlives its end
        with making.made(self.paths, options, ExecutionConfig(), layers, self.find) as found:
            for point in found:
                if not os.path.isdir(point.source):
                    raise SpecError(
                        f"a guest shares directories of the host, and {point.source} is none",
                        hint="share the directory that it is in",
                    )
            return found

    def clone(self, reference: str, name: str) -> str:
        """Make a machine with the disk of another one that does not run, as it is now, and return its id.

        Raises:
            NoSuchMachine: there is none.
            StateConflict: it runs, shares directories, or the name is taken.
            DomainError: the disk cannot be copied.
        """
        source = self.get(reference)
        if source.is_running:
            raise StateConflict(f"machine {source.name} runs: its disk changes", hint=f"lab vm shutdown {source.name}")
        if source.record.volumes:
            raise StateConflict(f"machine {source.name} shares directories of the host", hint="lab vm run -v …")
        record = replace(
            source.record,
            id=new_id(),
            created_ns=time.time_ns(),
            options=replace(source.record.options, removes=False),
            forwards=with_free_ports(tuple(replace(port, host=0) for port in source.record.forwards)),
        )
        building = directories.unfinished(self.paths, record.id)
        os.mkdir(building, 0o700)
        try:
            save_record(building, record)
            save_state(building, MachineState())
            root_disk.copy_root(os.path.join(source.directory, ROOT_DISK), os.path.join(building, ROOT_DISK))
            self._name(record.id, name)
            os.rename(building, directories.directory(self.paths, record.id))
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            self._names.release(record.id)
            raise
        return record.id

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self, reference: str, *, restores: bool = False, attaches: bool = False) -> None:
        """Start a machine, or have a saved one go on; its main command runs when this returns.

        An interruption while it boots powers it off again. With ``attaches`` its keeper waits for the caller to attach,
        even if it has ended before that.

        Raises:
            NoSuchMachine: there is none.
            StateConflict: it runs, or is saved, or is not.
            LabError: it does not start; the message has the guest's last lines.
        """
        machine = self.get(reference)
        _require_startable(machine, restores=restores)
        ours, theirs = os.pipe()
        verb = "restore" if restores else "attach" if attaches else "start"
        try:
            process = self._spawn_keeper(machine, theirs, verb)
        finally:
            os.close(theirs)
        try:
            told = _first_line(ours)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait(_END_S)
            raise
        finally:
            os.close(ours)
        if told:
            process.wait(_END_S)
            raise link.decode_error(told)

    def _spawn_keeper(self, machine: Machine, descriptor: int, verb: str) -> command.Process:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        program = f"import sys; sys.path.insert(0, {root!r}); from lab.machine.keeper import main; main(sys.argv[1:])"
        paths = self.paths
        words = (paths.root, paths.cache, paths.run, machine.id, verb, str(descriptor))
        with open(os.path.join(machine.directory, "keeper.log"), "ab") as messages:
            return command.spawn(
                (sys.executable, "-I", "-c", program, *words),
                stderr=messages,
                pass_fds=(descriptor,),
                start_new_session=True,
            )

    def connect(self, machine: Machine) -> link.Link:
        """Return a link with a running machine's keeper.

        Raises:
            StateConflict: it does not run.
            DomainError: its keeper does not answer.
        """
        if not machine.is_running:
            raise StateConflict(f"machine {machine.name} is not running", hint=f"lab vm start {machine.name}")
        return link.connect(machine.run_directory)

    def ask(self, machine: Machine, op: str, **arguments: object) -> Mapping[str, object]:
        """Have a running machine's keeper do something, and return its answer.

        Raises:
            StateConflict: it does not run.
            LabError: what the keeper says.
        """
        with contextlib.closing(self.connect(machine)) as connection:
            return link.ask(connection, op, **arguments)

    def end(self, machine: Machine, op: str, **arguments: object) -> None:
        """Have a running machine end ("shutdown", "destroy"), and return when it has ended and is put away.

        Raises:
            StateConflict: it does not run.
            LabError: what the keeper says.
        """
        with contextlib.closing(self.connect(machine)) as waiting:
            link.ask(waiting, "attach")
            self.ask(machine, op, **arguments)
            waiting.receive()

    def remove(self, reference: str, *, force: bool = False) -> None:
        """Remove a machine, its disk, its snapshots and its name.

        Raises:
            NoSuchMachine: there is none.
            StateConflict: it runs, and this is not by force.
        """
        machine = self.get(reference)
        if machine.is_running:
            if not force:
                raise StateConflict(
                    f"machine {machine.name} runs", hint=f"lab vm shutdown {machine.name}, or lab vm rm -f"
                )
            with contextlib.suppress(StateConflict, DomainError):  # it has just ended
                self.end(machine, "destroy")
        directories.remove(self.paths, machine.record)

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def save(self, reference: str) -> None:
        """Write a running machine's memory to its directory, and end it.

        Raises:
            NoSuchMachine: there is none.
            StateConflict: it does not run, or shares directories of the host.
            DomainError: it could not be saved; it goes on.
        """
        machine = self.get(reference)
        with contextlib.closing(self.connect(machine)) as waiting:
            link.ask(waiting, "attach")
            self.ask(machine, "save")
            waiting.receive()

    def forget_memory(self, machine: Machine) -> None:
        """Throw the memory of a saved machine away: its next start boots it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(machine.directory, MEMORY))
        save_state(machine.directory, replace(machine.state, status=MachineStatus.EXITED, exit_code=_KILLED))

    def snapshots(self, machine: Machine) -> tuple[tuple[str, bool, int], ...]:
        """Return a machine's snapshots by age: name, whether with memory, time of day in nanoseconds."""
        parent = os.path.join(machine.directory, SNAPSHOTS)
        try:
            names = [name for name in os.listdir(parent) if not name.startswith(".")]
        except FileNotFoundError:
            return ()
        found = [
            (name, os.path.exists(os.path.join(parent, name, MEMORY)), os.stat(os.path.join(parent, name)).st_mtime_ns)
            for name in names
        ]
        return tuple(sorted(found, key=lambda snapshot: snapshot[2]))

    def make_snapshot(self, reference: str, name: str) -> None:
        """Keep a machine's disk, and its memory if it runs, under a name.

        Raises:
            NoSuchMachine: there is none.
            SpecError: the name is none.
            StateConflict: the name is taken, or the machine shares directories and runs.
            DomainError: it could not be kept.
        """
        machine = self.get(reference)
        final = self._snapshot(machine, name)
        if os.path.exists(final):
            raise StateConflict(f"machine {machine.name} has a snapshot {name}", hint="choose another name")
        building = os.path.join(machine.directory, SNAPSHOTS, f".{name}")
        shutil.rmtree(building, ignore_errors=True)
        os.makedirs(building)
        try:
            if machine.is_running:
                self.ask(machine, "snapshot", target=building)
            else:
                for file in (ROOT_DISK, MEMORY):
                    if os.path.exists(os.path.join(machine.directory, file)):
                        root_disk.copy_root(os.path.join(machine.directory, file), os.path.join(building, file))
            os.rename(building, final)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise

    def revert(self, reference: str, name: str) -> None:
        """Have a machine be as it was: it runs if its memory has been kept, and does not if not.

        Raises:
            NoSuchMachine: there is none.
            StateConflict: there is no such snapshot.
            LabError: it could not be restored.
        """
        machine = self.get(reference)
        kept = self._existing(machine, name)
        if machine.is_running:
            with contextlib.suppress(StateConflict):
                self.end(machine, "destroy")
        for file in (ROOT_DISK, MEMORY):
            source, target = os.path.join(kept, file), os.path.join(machine.directory, file)
            if os.path.exists(source):
                root_disk.copy_root(source, target)
            elif os.path.exists(target):
                os.unlink(target)
        has_memory = os.path.exists(os.path.join(kept, MEMORY))
        status = MachineStatus.SAVED if has_memory else MachineStatus.CREATED
        save_state(machine.directory, replace(machine.state, status=status, exit_code=None, reason="", vmm_pid=0))
        if has_memory:
            self.start(machine.id, restores=True)

    def remove_snapshot(self, reference: str, name: str) -> None:
        """Remove a snapshot.

        Raises:
            NoSuchMachine: there is none.
            StateConflict: there is no such snapshot.
        """
        shutil.rmtree(self._existing(self.get(reference), name))

    def _existing(self, machine: Machine, name: str) -> str:
        path = self._snapshot(machine, name)
        if not os.path.isdir(path):
            raise StateConflict(
                f"machine {machine.name} has no snapshot {name}", hint=f"lab vm snapshot ls {machine.name}"
            )
        return path

    def _snapshot(self, machine: Machine, name: str) -> str:
        if not name or "/" in name or name.startswith("."):
            raise SpecError(f"'{name}' cannot be a snapshot's name", hint="use letters, digits, '_', '.', '-'")
        return os.path.join(machine.directory, SNAPSHOTS, name)


def _require_startable(machine: Machine, *, restores: bool) -> None:
    is_saved = machine.state.status is MachineStatus.SAVED
    if machine.is_running:
        raise StateConflict(f"machine {machine.name} runs already", hint="lab vm ls")
    if restores and not is_saved:
        raise StateConflict(f"machine {machine.name} is not saved", hint=f"lab vm start {machine.name}")
    if is_saved and not restores:
        raise StateConflict(
            f"machine {machine.name} is saved", hint=f"lab vm restore {machine.name}, or lab vm destroy it first"
        )


def _first_line(descriptor: int) -> dict[str, str]:
    """Return a keeper's first word; one that ends without any has failed in a way that it did not foresee."""
    text = b""
    while not text.endswith(b"\n"):
        data = os.read(descriptor, _READ_BYTES)
        if not data:
            return {
                "kind": "DomainError",
                "message": "the machine's keeper ended at once",
                "hint": "see its keeper.log",
            }
        text += data
    found: dict[str, str] = json.loads(text)
    return found
