@0xbb3d98a8a03edc9a;
# The sections of a checkpoint file: image, page index, statistics. `checkpoint/src/file.rs` draws the file
# around them; each section is one packed message, compressed with brotli.
#
# Numbers of fields are for ever, as in common.capnp.

using Common = import "common.capnp";

struct Image {
  # A session at an event: everything but the contents of pages (rr_checkpoint::image::SessionImage).

  event   @0 :UInt64;        # the last event that has happened
  timeNs  @1 :UInt64;        # when: nanoseconds since the recording began
  spaces  @2 :List(Space);   # ascending ids
  tasks   @3 :List(Task);    # ascending tids
  objects @4 :List(Object);  # ascending ids
}

struct Space {
  # An address space.

  id       @0 :UInt32;
  mappings @1 :List(Common.Mapping);  # ascending, none overlaps another
}

struct Task {
  # A live task.

  tid       @0 :Int32;
  tgid      @1 :Int32;
  space     @2 :UInt32;
  inSyscall @3 :Bool;
  # Inside a system call whose return is an event to come: registers as at its entry.

  exe       @4 :Text;   # the program, for people
  regs      @5 :Common.Registers;
  xstate    @6 :Data;   # standard (non-compacted) XSAVE format, as PTRACE_GETREGSET(NT_X86_XSTATE) gives it
}

struct Object {
  # A shared memory object that is mapped somewhere.

  id       @0 :UInt32;
  size     @1 :UInt64;  # bytes
  isFile   @2 :Bool;
  # Since version 2. It still is the file of the trace that it was made from: files/<32 hex digits: hashHigh, then
  # hashLow>. Then it has no pages here, and no mapping of it is writable.

  hashHigh @3 :UInt64;
  hashLow  @4 :UInt64;
}

struct PageIndex {
  # Where the contents of pages are. A page that is in no run holds what its mapping is backed by: zeros, or
  # the page of the mapped file (zeros from the file's end to the end of that page); a page of an object: zeros,
  # or what stands there in the file that it is.

  blocks  @0 :List(Block);
  targets @1 :List(Target);
}

struct Block {
  # A piece of this or an earlier checkpoint file of the same trace that holds compressed pages.

  event    @0 :UInt64;
  # Which file: that of the checkpoint at this event. Never later than this checkpoint; and never a
  # reference to a reference: the bytes are there.

  offset   @1 :UInt64;  # of its first byte in that file
  length   @2 :UInt32;  # bytes in the file
  pages    @3 :UInt16;  # how many pages of 4096 bytes it holds, 1 to 256
  checksum @4 :UInt64;  # XXH3-64 (seed 0) of the bytes in the file

  codec    @5 :UInt8;
  # Of the bytes in the file. 0: brotli, or the pages as they are if there are pages * 4096 bytes (all that versions 1
  # and 2 have); 1: zstd; 2: the pages as they are.
}

struct Target {
  # What the pages belong to.

  union {
    space  @0 :UInt32;  # an address space; page n is at address n * 4096
    object @1 :UInt32;  # a shared memory object; page n is at offset n * 4096
  }
  runs @2 :List(Run);  # ascending
}

struct Run {
  # Pages that follow each other in the target and in a block.

  gap   @0 :UInt64;  # pages between the end of the run before (for the first: page 0) and the first of this
  count @1 :UInt32;  # pages, at least 1
  block @2 :UInt32;  # index into PageIndex.blocks; 0xffffffff: the pages are zeros
  slot  @3 :UInt16;  # the first page's place in the block
}

struct Statistics {
  # How this checkpoint came about.

  pauseUs         @0 :UInt64;  # how long the recorded program stood still for it
  pagesScanned    @1 :UInt64;  # pages whose contents were looked at: the sum of the next three
  pagesZero       @2 :UInt64;  # were zeros
  pagesReferenced @3 :UInt64;  # were already stored, in an earlier checkpoint or in this one
  pagesStored     @4 :UInt64;  # are new here
  writeMs         @5 :UInt64;  # from the writer's taking it up until all but the file's header was written
  method          @6 :Text;    # how pages with data were found: "pagemap_scan" or "pagemap"; "+unchanged" if changed ones were known
  spacesInPlace   @7 :UInt32;  # address spaces that were read wholly without a fork
  pagesUnchanged  @8 :UInt64;  # known to be as in the checkpoint before, without being looked at
  maker           @9 :Maker;

  enum Maker {
    unknown           @0;
    recorder          @1;  # rr record
    createCheckpoints @2;  # rr create-checkpoints
    debugger          @3;  # a command of its user
  }
}
