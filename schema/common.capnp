@0xa75714220c048881;
# What traces and checkpoints have in common: registers, mappings and the operations on them.
#
# The Rust types of the same names are in `tracee/src/{regs,space,ids}.rs`; `rr_trace::convert` turns one into
# the other. Numbers of fields are for ever: a field is never renumbered or given another meaning; new ones go
# to the end (https://capnproto.org/language.html#evolving-your-protocol).
#
# Addresses are those of the recorded program. All ranges are half-open, [start, end), and end is never below start.

struct Registers {
  # The general registers of an x86-64 task, in the order of the kernel's `struct user_regs_struct`
  # (<sys/user.h>). Where something speaks of "word i", it is the field with number i here.

  r15     @0  :UInt64;
  r14     @1  :UInt64;
  r13     @2  :UInt64;
  r12     @3  :UInt64;
  rbp     @4  :UInt64;
  rbx     @5  :UInt64;
  r11     @6  :UInt64;
  r10     @7  :UInt64;
  r9      @8  :UInt64;
  r8      @9  :UInt64;
  rax     @10 :UInt64;
  rcx     @11 :UInt64;
  rdx     @12 :UInt64;
  rsi     @13 :UInt64;
  rdi     @14 :UInt64;
  origRax @15 :UInt64;  # the system call's number while in one, else 2^64-1
  rip     @16 :UInt64;
  cs      @17 :UInt64;
  eflags  @18 :UInt64;
  rsp     @19 :UInt64;
  ss      @20 :UInt64;
  fsBase  @21 :UInt64;
  gsBase  @22 :UInt64;
  ds      @23 :UInt64;
  es      @24 :UInt64;
  fs      @25 :UInt64;
  gs      @26 :UInt64;
}

struct AddrRange {
  start @0 :UInt64;
  end   @1 :UInt64;
}

enum ForkPolicy {
  # What happens to a mapping in a forked child (madvise(2)).

  copy @0;
  omit @1;  # MADV_DONTFORK
  wipe @2;  # MADV_WIPEONFORK
}

struct Backing {
  # What the bytes of a mapping are when nobody has written to them.

  union {
    anonymous @0 :Void;
    # Zero.

    file :group {
      # Private mapping of a file of the trace: files/<32 hex digits: hashHigh, then hashLow>.
      hashHigh @1 :UInt64;
      hashLow  @2 :UInt64;
      offset   @3 :UInt64;  # of the mapping's first byte in the file; a multiple of the page size
    }

    shared :group {
      # Shared mapping of a memory object of the recording.
      object       @4 :UInt32;
      objectOffset @5 :UInt64;  # of the mapping's first byte in the object; a multiple of the page size
    }

    rr @6 :Void;
    # Memory of rr itself: never captured or compared.

    copyOnWrite :group {
      # Private mapping of a memory object of the recording: pages that nobody has written to here are the object's.
      privateObject @7 :UInt32;
      privateOffset @8 :UInt64;  # of the mapping's first byte in the object; a multiple of the page size
    }
  }
}

struct Mapping {
  # One mapping of an address space.

  start   @0 :UInt64;
  end     @1 :UInt64;
  prot    @2 :UInt8;       # PROT_READ (1), PROT_WRITE (2), PROT_EXEC (4)
  fork    @3 :ForkPolicy;
  backing @4 :Backing;
  name    @5 :Text;        # for people: path at recording, "[heap]", "[stack]", or nothing
}

struct SpaceOp {
  # One change of an address space.

  union {
    map @0 :Mapping;
    # Map this, in place of whatever was there.

    unmap @1 :AddrRange;
    # Unmap everything in the range.

    protect :group {
      # Give everything in the range these rights.
      protectRange @2 :AddrRange;
      prot         @3 :UInt8;  # as in Mapping
    }

    move :group {
      # Move pages and their contents to another place, in place of whatever is there.
      from @4 :AddrRange;
      to   @5 :UInt64;
      keep @6 :Bool;  # the old place stays mapped, empty (MREMAP_DONTUNMAP)
    }

    discard @7 :AddrRange;
    # Private pages in the range return to what they were when untouched (MADV_DONTNEED).

    setFork :group {
      # Set what a fork does to the range.
      setForkRange @8 :AddrRange;
      policy       @9 :ForkPolicy;
    }

    createObject :group {
      # A shared memory object comes into being, before its first map.
      object     @10 :UInt32;
      size       @11 :UInt64;  # bytes
      hasContent @12 :Bool;    # whether it begins with the contents of a file of the trace; else zeros
      hashHigh   @13 :UInt64;
      hashLow    @14 :UInt64;
    }

    resizeObject :group {
      # A shared memory object has another size now (ftruncate, or a write beyond its end).
      resizedObject @15 :UInt32;
      newSize       @16 :UInt64;  # bytes
    }
  }
}
