//! Our commands as commands of gdb: a script that `rr replay` gives to gdb and `rr gdbinit` prints.
//!
//! A command asks the server (`maint packet qRRCmd:…`) and prints what it says. A command that goes to another place
//! says so to the server and then continues: see the module `server::motion`.

/// The script.
pub fn script() -> &'static str {
    include_str!("rr.gdb")
}
