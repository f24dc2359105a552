//! Tests of the table: its shape, its computed entries with invented memory, and all calls that can
//! safely be made to the kernel.

mod computed;
mod harness;
mod hostile;
mod live_files;
mod live_process;
mod live_sockets;
mod live_system;
mod live_waiting;
mod table;
