//! Linux AIO (io_setup(2), io_submit(2), io_getevents(2)).
//!
//! The kernel carries out the program's requests at times of its own: it writes into buffers, into files that may be mapped, and into
//! the completion ring of the context, which is mapped into the program. Each of these must belong to an event (I2, I3).
//!
//! * *The ring* is moved into rr's area, and an empty page takes its place: without the magic number, no library reads completions there,
//!   and all use `io_getevents`. The kernel names a context by the address of its ring. So the recorder translates the name that the
//!   program uses into that address at the entry of each call ([`contexts`], [`setup`]).
//! * *Requests* are carried out by the kernel, straight between the program's buffers and its files. The recorder waits at the exit of
//!   `io_submit` until those of the call are done, before any other task runs. So their effects are part of that event ([`submit`]). Only
//!   `IOCB_CMD_POLL` stays under way: it writes no memory, and what the program learns of it comes by `io_getevents` or an eventfd.
//! * *Requests that may wait for another task* (of a pipe, a socket, a terminal …) are submitted by a call of their own: the program
//!   gets a smaller number of submitted requests than it has asked for, which the kernel may do as well. A read waits until there is
//!   something to be read *before* the call is made.
//!
//! `io_getevents`, `io_pgetevents` and `io_cancel` are then ordinary calls of the table.

pub(crate) mod contexts;
pub(crate) mod requests;
mod ring;
pub(crate) mod setup;
pub(crate) mod submit;
