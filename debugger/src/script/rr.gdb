# Commands of rr for gdb. Printed by `rr gdbinit`; `rr replay` gives it to gdb by itself.
set prompt (rr) 
set python print-stack full
# A call of a function that crashes leaves nothing behind.
set unwindonsignal on
set non-stop off
handle SIGURG stop

python
import re
import gdb

class RR:
    "The server's side of our commands."

    # The stop that comes is not one for `back` to go to.
    walking = False

    @staticmethod
    def thread():
        "The recorded tid of the selected thread, -1 if there is none."
        thread = gdb.selected_thread()
        if thread is None or not thread.is_valid():
            return -1
        pid, lwp, tid = thread.ptid
        return lwp or tid or pid

    @staticmethod
    def ask(name, *args):
        "Sends a command; the server's text."
        packet = "maint packet qRRCmd:%s:%d" % (name, RR.thread())
        for arg in args:
            packet += ":" + arg.encode("utf-8", "surrogateescape").hex()
        try:
            output = gdb.execute(packet, to_string=True)
        except gdb.error as e:
            raise gdb.GdbError("%s: not connected with rr (%s)" % (name, e))
        found = re.search(r'received: "([^"]*)"', output)
        answer = found.group(1) if found else ""
        if answer == "OK":
            return ""
        try:
            return bytes.fromhex(answer).decode("utf-8", "replace")
        except ValueError:
            raise gdb.GdbError("%s: rr says %s" % (name, answer))

    @staticmethod
    def move(background, name, *args):
        "Goes to another place: the server does it instead of the continue that follows."
        # gdb steps over a breakpoint at the place where it is, and takes what it finds then for the same thread.
        disabled = [b for b in gdb.breakpoints() if b.enabled]

        def arrived(event=None):
            if arrived.done:
                return
            arrived.done = True
            gdb.events.stop.disconnect(arrived)
            gdb.events.exited.disconnect(arrived)
            RR.walking = False
            for b in disabled:
                if b.is_valid():
                    b.enabled = True

        arrived.done = False
        gdb.events.stop.connect(arrived)
        gdb.events.exited.connect(arrived)
        try:
            for b in disabled:
                b.enabled = False
            RR.ask("rr-next", name, *args)
            RR.walking = name in ("back", "forward")
            gdb.execute("continue &" if background else "continue")
        except (gdb.error, gdb.GdbError) as e:
            arrived()
            RR.ask("rr-stay")
            raise gdb.GdbError(str(e))

    @staticmethod
    def is_alive():
        return gdb.selected_inferior().pid != 0

    @staticmethod
    def where():
        "Frame 0 in short."
        try:
            frame = gdb.newest_frame()
        except gdb.error:
            return "??"
        name = frame.name() or "??"
        text = name if "(" in name else name + " ()"
        sal = frame.find_sal()
        if sal.symtab is not None:
            return "%s at %s:%d" % (text, sal.symtab.filename, sal.line)
        library = gdb.solib_name(frame.pc())
        text = "0x%016x in %s" % (frame.pc(), text)
        return text + (" from " + library if library else "")

class Ask(gdb.Command):
    "A command that the server answers."

    def __init__(self, name, doc, arguments=None):
        self.__doc__ = doc
        self.packet = name.replace(" ", "-")
        self.arguments = arguments
        super().__init__(name, gdb.COMMAND_OBSCURE)

    def invoke(self, argument, from_tty):
        args = self.arguments(argument) if self.arguments else gdb.string_to_argv(argument)
        text = RR.ask(self.packet, *args)
        if text:
            gdb.write(text if text.endswith("\n") else text + "\n")

class Go(gdb.Command):
    "A command that goes to another place."

    def __init__(self, name, doc, go):
        self.__doc__ = doc
        self.go = go
        super().__init__(name, gdb.COMMAND_RUNNING)

    def invoke(self, argument, from_tty):
        self.dont_repeat()
        # Front ends run everything in the background.
        argument = argument.strip()
        background = argument.endswith("&")
        try:
            self.go(argument.rstrip("& "), background)
        except gdb.error as e:
            raise gdb.GdbError(str(e))

def rr_run(argument, background):
    if argument and not re.fullmatch(r"c?[0-9]+", argument):
        raise gdb.GdbError("run: an event (a number), a checkpoint (cN), or nothing: %s" % argument)
    if RR.is_alive():
        RR.move(background, "run", *([argument] if argument else []))
    else:
        # The program has ended: gdb starts it anew, and reads symbols again.
        gdb.execute("set args " + argument)
        gdb.execute("starti")

def rr_restart(argument, background):
    if not re.fullmatch(r"c?[0-9]+", argument):
        raise gdb.GdbError("restart: which checkpoint? (info checkpoints lists them)")
    rr_run("c" + argument.lstrip("c"), background)

def rr_seek(argument, background):
    if not re.fullmatch(r"[0-9]+", argument):
        raise gdb.GdbError("seek: to which event? (when-end says how many there are)")
    rr_run(argument, background)

def rr_alive():
    if not RR.is_alive():
        raise gdb.GdbError("The program is not being run.")

def rr_back(argument, background):
    rr_alive()
    RR.move(background, "back", *gdb.string_to_argv(argument))

def rr_forward(argument, background):
    rr_alive()
    RR.move(background, "forward", *gdb.string_to_argv(argument))

def rr_last(argument, background):
    rr_alive()
    if not argument:
        raise gdb.GdbError("last: the last write of which expression?")
    value = gdb.parse_and_eval(argument)
    if value.address is None:
        raise gdb.GdbError("last: %s does not lie in memory" % argument)
    # A pointer that leads nowhere is the usual reason.
    try:
        gdb.selected_inferior().read_memory(int(value.address), value.type.sizeof)
    except gdb.MemoryError:
        raise gdb.GdbError("last: %s would lie at %#x, where there is no memory" % (argument, int(value.address)))
    gdb.execute("watch -location " + argument, to_string=True)
    watchpoint = gdb.breakpoints()[-1]
    # gdb stops at whatever else stops it, and says so.
    try:
        gdb.execute("reverse-continue")
    finally:
        if watchpoint.is_valid():
            watchpoint.delete()

def rr_jump(argument, background):
    raise gdb.GdbError("Execution of 'jump' is not possible in recorded executions.")

def rr_checkpoint_arguments(argument):
    rr_alive()
    return [RR.where()]

def rr_delete_arguments(argument):
    if not argument.strip():
        raise gdb.GdbError("'delete checkpoint' requires an argument")
    return gdb.string_to_argv(argument)

class Where(gdb.Command):
    "Print frame 0 in short."

    def __init__(self):
        super().__init__("rr-where", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        gdb.write(RR.where() + "\n")

Where()
Ask("when", "Print the number of the last event before here.")
Ask("when-end", "Print the number of the last event of the recording.")
Ask("when-tid", "Print the recorded id of the thread.")
Ask("when-ticks", "Explain what takes the place of ticks.")
Ask("seek-ticks", "Explain what takes the place of ticks: events (`seek`).")
Ask("elapsed-time", "Print the seconds since the recording began.")
Ask("absolute-time", "Print the time of day here.")
Ask("checkpoint", "Note this place; `restart N` goes back to it.", rr_checkpoint_arguments)
Ask("delete checkpoint", "delete checkpoint N: forget a place that `checkpoint` noted.", rr_delete_arguments)
Ask("info checkpoints", "List the places that `checkpoint` noted, and count the checkpoints in the trace.")
Ask("info recording", "Say which recording this is.")
Ask("write-checkpoint", "Store a checkpoint of the event where this place is in the trace, for this session and later replays.")
Go("run", "run: go back to where the session began or was restarted. run EVENT: go to an event. "
   "run cN: the same as restart N.", rr_run)
Go("restart", "restart N: go to checkpoint N.", rr_restart)
Go("seek", "seek EVENT: go to an event, forwards or backwards.", rr_seek)
Go("back", "Go to the stop before this one.", rr_back)
Go("forward", "Go to the stop from which `back` went.", rr_forward)
Go("last", "last EXPRESSION: go back to the last write of the memory that the expression is in.", rr_last)
Go("jump", "Not possible in a replay.", rr_jump)

def rr_after_stop(event):
    "Lets the server note the stops that `back` goes through."
    if RR.walking:
        return
    try:
        RR.ask("rr-history-push")
    except (gdb.error, gdb.GdbError):
        pass

gdb.events.stop.connect(rr_after_stop)
end

# gdb does not continue after starti: the server need not wait for that.
define hookpost-starti
python RR.ask("rr-stay")
end
document hookpost-starti
Tells rr that the program is where it should be.
end
