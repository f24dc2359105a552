# What the tests of the debugger have in gdb before their own commands.
import gdb
import hashlib
import time

gdb.execute("set confirm off")
gdb.execute("set pagination off")
gdb.execute("set width 0")
gdb.execute("set height 0")

rr_saved = {}


def rr_say(text):
    gdb.write(text)
    gdb.flush()


def rr_here():
    "Registers, and checksums of writable memory."
    here = {}
    for line in gdb.execute("info all-registers", to_string=True).splitlines():
        words = line.split(None, 1)
        if len(words) == 2:
            here["register " + words[0]] = words[1]
    inferior = gdb.selected_inferior()
    for line in gdb.execute("info proc mappings", to_string=True).splitlines():
        words = line.split()
        if len(words) < 5 or not words[0].startswith("0x") or "w" not in words[4]:
            continue
        start, end = int(words[0], 16), int(words[1], 16)
        try:
            memory = bytes(inferior.read_memory(start, end - start))
        except gdb.MemoryError:
            memory = b""
        here["memory " + " ".join(words)] = hashlib.sha1(memory).hexdigest()
    return here


def rr_compare(name):
    before, now = rr_saved[name], rr_here()
    differing = [key for key in sorted(set(before) | set(now)) if before.get(key) != now.get(key)]
    for key in differing:
        rr_say("%s: %.60s, now %.60s\n" % (key, before.get(key), now.get(key)))
    checksums = sum(1 for key in now if key.startswith("memory"))
    if not differing and checksums > 2:
        rr_say("%s: the same\n" % name)
    else:
        rr_say("%s: %d things differ, %d mappings\n" % (name, len(differing), checksums))


def rr_do(command):
    rr_say("\n(test) %s\n" % command)
    began = time.time()
    word, _, argument = command.partition(" ")
    try:
        if word == "save":
            rr_saved[argument] = rr_here()
        elif word == "same":
            rr_compare(argument)
        elif word == "timed":
            gdb.execute(argument)
            rr_say("took %d ms\n" % ((time.time() - began) * 1000))
        else:
            gdb.execute(command)
    except gdb.error as error:
        rr_say("error: %s\n" % error)
    except KeyboardInterrupt:
        rr_say("error: Quit\n")
    gdb.flush()


