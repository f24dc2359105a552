//! Tests of the table: its shape, its irregular entries against memory made up, and all that
//! can be performed safely against the kernel.

mod harness;
mod hostile;
mod irregular;
mod live_files;
mod live_process;
mod live_sockets;
mod live_system;
mod live_waiting;
mod table;
