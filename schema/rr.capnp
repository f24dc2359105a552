@0xa28fea0a9ad89916;
# The messages of a trace: its header, and the payloads of the frames of its segments. Where they stand in the
# files, and how they are framed and compressed, is described in `trace/src/lib.rs`.
#
# All messages are packed (https://capnproto.org/encoding.html#packing).

using Common = import "common.capnp";

struct Header {
  # The file `header`: where, when and what was recorded.

  uuid               @0  :Data;        # 16 bytes; every segment and checkpoint of the trace repeats them
  programVersion     @1  :Text;        # of the rr that recorded
  startedNs          @2  :Int64;       # wall clock: nanoseconds since 1970-01-01 00:00 UTC
  args               @3  :List(Data);  # the recorded program and its arguments
  cwd                @4  :Data;
  environ            @5  :List(Data);  # NAME=value
  uname              @6  :Uname;
  cpuModel           @7  :Text;        # "model name" of /proc/cpuinfo
  cpuidFaulting      @8  :Bool;        # whether CPUID could be intercepted (arch_prctl(2), ARCH_SET_CPUID)
  boundCpu           @9  :Int32;       # the CPU that the recording was bound to; -1: none
  checkpointInterval @10 :UInt64;      # before checkpointEvery: events from one checkpoint to the next; 0: none
  pageSize           @11 :UInt32;      # bytes
  chaos              @12 :Bool;        # whether scheduling was random (rr record --chaos)…
  chaosSeed          @13 :UInt64;      # …and with which seed
  refused            @14 :List(Refused);
  # System calls that a seccomp filter around the recording refused: they are no events. Numbers ascend.

  checkpointEvery    @15 :Text;
  # What was asked for with --checkpoint-interval: steps ("1000"), events ("1000e"), a time ("2s", "500ms"), "auto";
  # empty: no checkpoints.

  cpuid              @16 :List(CpuidAnswer);
  # The answers of CPUID that the library in the program gives; empty: it gives none.

  portable           @17 :UInt8;
  # The micro-architecture level of the psABI whose processors replay this (2: x86-64-v2, 3: x86-64-v3), or 0: it was not
  # recorded for that.
}

struct CpuidAnswer {
  leaf @0 :UInt32;  # eax before the instruction
  sub  @1 :UInt32;  # ecx before it; 0xffffffff: any
  eax  @2 :UInt32;  # after it…
  ebx  @3 :UInt32;
  ecx  @4 :UInt32;
  edx  @5 :UInt32;
}

struct Refused {
  number @0 :Int32;  # of the system call
  errno  @1 :Int32;  # what it failed with; positive
}

struct Uname {
  # uname(2).

  sysname  @0 :Text;
  nodename @1 :Text;
  release  @2 :Text;
  version  @3 :Text;
  machine  @4 :Text;
}

struct Events {
  # Payload of a frame of kind Events.

  events @0 :List(Event);
  # One for each number from the frame's first event to its last.
}

struct End {
  # Payload of a frame of kind End: the recording ended in an orderly way.

  status        @0 :Int32;   # of the program's first process, as wait(2) gives it
  bufferedCalls @1 :UInt64;  # calls that the library in the program made, in the whole recording
  processes     @2 :ProcessTable;  # null: they are too many, and only the events know them
  cpuHidden     @3 :Bool;    # no instruction of the program could tell it on which CPU it ran
}

struct ProcessTable {
  # What the events say about processes.

  beginsAt  @0 :UInt64;          # the event of the checkpoint that the recording began at when this was written; 0: at its first event
  programs  @1 :List(Executed);  # that they executed
  processes @2 :List(RecordedProcess);
  # In the order in which they came into being.
}

struct Executed {
  # A program that a process executed.

  at      @0 :UInt64;  # the event
  program @1 :Exec;
  stack   @2 :UInt64;  # the stack pointer at its entry
}

struct RecordedProcess {
  pid       @0 :Int32;
  parent    @1 :Int32;   # the process that created it; 0: none, it is the first
  began     @2 :UInt64;  # the event that created it, or that the recording begins at
  ended     @3 :UInt64;  # the first of the events in which its last tasks exit; 0: none
  exited    @4 :Bool;
  status    @5 :Int32;   # if it exited: as wait(2) gives it
  executed  @6 :List(UInt32);  # numbers of programs, from 0, in order
  inherited @7 :UInt32;  # one more than the number of the program of the process that it was forked from; 0: none
}

struct Beginning {
  # The file `beginning`: the recording's first events were deleted, and replay begins at a checkpoint.

  event     @0 :UInt64;           # of the checkpoint
  processes @1 :List(Process);
  # Those that live after that event, in the order in which they came into being.
}

struct Process {
  # A process that lives at the beginning.

  pid      @0 :Int32;
  parent   @1 :Int32;        # the process that created it; 0: none, it is the first
  tids     @2 :List(Int32);  # its tasks
  executed @3 :Bool;         # whether it executed `program` itself; otherwise the process that it was forked from did
  program  @4 :Exec;         # null: not known
  stack    @5 :UInt64;       # the stack pointer at the entry of `program`
}

struct Event {
  # One recorded step of one task; see `trace/src/event.rs` for what each means.
  #
  # Registers. An event holds up to two sets: `before` and `after`. Each is encoded against the previous set of
  # the same task in the same frame (all zero if there is none): bit i of `...Changed` says that word i (numbered as
  # the fields of Common.Registers) differs, and `words` has, for each such bit from low to high, first of `before`,
  # then of `after`, the word XOR the previous one.
  #
  # Bytes. Long byte strings are not here but in the Data frames that stand between the previous Events frame and
  # this one. Put together, these are the bytes of the first event's system call buffer, of all its writes, in order,
  # then of its object writes, then of its output if that is `bytes`, then those of the second event, and so on, and
  # nothing else.

  time          @0 :UInt64;
  # Nanoseconds since the previous event of this frame (modulo 2^64); of the first: since the recording began.

  tid           @1 :Int32;
  beforeChanged @2 :UInt32;
  afterChanged  @3 :UInt32;
  words         @4 :List(UInt64);
  ops           @5 :List(Common.SpaceOp);
  writes        @6 :List(Write);

  union {
    start @7 :Start;
    # The first event. Sets: after.

    syscallEnter @8 :Void;
    # Sets: before.

    syscall :group {
      # Sets: before if `entered`, after.
      entered @9  :Bool;
      xstate  @10 :Data;      # null: unchanged
      task    @11 :TaskOp;    # null: none
      output  @12 :Output;    # null: none
      payload @19 :UInt32;
      # Digest of the bytes that the call has handed to the outside world (preload/src/payload.rs); 0: none.
    }

    restart @13 :Void;
    # Sets: after.

    trap @14 :Void;
    # Sets: before, after.

    signal @15 :Signal;
    # Sets: before unless its place is `here`, after.

    exit :group {
      # Sets: none.
      status @16 :Int32;  # as wait(2) gives it
    }

    point @17 :Point;
    # The interval ended where no event came: at an execution point. Sets: before.

    setRegisters :group {
      # Another task of the recording, its tracer, has set its registers. Sets: after.
      xstate @22 :Data;  # null: unchanged
    }
  }

  buffered      @18 :UInt64;
  # Bytes of the system call buffer: what the buffered calls of the interval gave (preload/src/layout.rs).

  others        @20 :List(OtherOp);
  # What becomes of other address spaces, after `ops` and before the writes.

  objectWrites  @21 :List(ObjectWrite);
}

struct OtherOp {
  # An operation on an address space that is not the task's.

  space @0 :UInt32;
  op    @1 :Common.SpaceOp;
}

struct ObjectWrite {
  # Bytes that came into a shared memory object where nobody has it mapped shared.

  object @0 :UInt32;
  offset @1 :UInt64;
  length @2 :UInt64;  # bytes
}

struct Point {
  # Names a place inside an interval, beside the registers, by the rest of the state.

  xstate         @0 :Data;
  discriminators @1 :List(Word);
  # Memory that changes often near the point: cheap to look at first.
  digests        @2 :List(Word);
  # Digests of memory: where a chunk of 2 MiB begins, and the xxh3-64 of its pages that are not all zeros (each
  # page preceded by its number in the chunk, 64 bits). Only what the task could have written; chunks in order.
  ran            @3 :UInt32;
  # About how much processor time the task had in the interval, in µs; no part of the name. 0: unknown.
}

struct Word {
  addr  @0 :UInt64;
  value @1 :UInt64;
}

struct Write {
  # Bytes that the kernel wrote into a tracee.

  space  @0 :UInt32;
  addr   @1 :UInt64;
  length @2 :UInt64;  # bytes
}

struct Start {
  exec   @0 :Exec;
  xstate @1 :Data;
}

struct Exec {
  # A program that was executed.

  path  @0 :Text;
  args  @1 :List(Text);
  space @2 :UInt32;
  tid   @3 :Int32;
}

struct TaskOp {
  union {
    clone @0 :Clone;
    exec  @1 :Exec;
  }
}

struct Clone {
  # A new task.

  child   @0 :Int32;
  tgid    @1 :Int32;
  space   @2 :UInt32;
  flags   @3 :UInt64;  # CLONE_*
  changed @4 :UInt32;
  # Which words of its registers differ from the event's `after`. They count as the previous set of the child.
  words   @5 :List(UInt64);
}

struct Output {
  # What a call wrote to the recording's own standard output or error.

  stream @0 :Stdio;
  union {
    memory @1 :List(Piece);
    # It is in the task's memory, in this order.

    bytes @2 :UInt64;
    # It is in the Data frames; this many bytes.
  }
}

struct Piece {
  addr   @0 :UInt64;
  length @1 :UInt64;  # bytes
}

enum Stdio {
  out @0;
  err @1;
}

struct Signal {
  signo       @0 :Int32;
  info        @1 :Data;  # siginfo_t
  place       @2 :SignalPlace;
  disposition @3 :Disposition;
  xstate      @4 :Data;  # null: unchanged
}

enum SignalPlace {
  fault @0;  # the task ran to an instruction that faulted, in the state `before`
  entry @1;  # the task ran to its next system call instruction, state `before`
  here  @2;  # where it stood after its previous event
}

enum Disposition {
  ignored @0;
  handler @1;
  fatal   @2;
  stopped @3;
}
