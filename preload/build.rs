//! Compiles `library/` with the compiler that builds everything else, links it for its address, and puts the bytes of its
//! code into `$OUT_DIR/library.bin`.

use std::path::Path;
use std::process::Command;

fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = variable("OUT_DIR");
    let out = Path::new(&out);
    for file in ["library", "src/layout.rs", "src/payload.rs", "build.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let image = out.join("library.bin");
    let script = Path::new(&variable("CARGO_MANIFEST_DIR")).join("library/library.ld");
    let status = Command::new(variable("RUSTC"))
        .args([
            "library/main.rs",
            "--crate-name=rr_library",
            "--crate-type=bin",
            "--edition=2024",
        ])
        .args([
            "--target=x86_64-unknown-linux-gnu",
            "-Cpanic=abort",
            "-Copt-level=2",
            "-Ccodegen-units=1",
        ])
        // The code runs on any x86-64 processor, whatever the rest is built for: the entry saves only
        // the registers of that level.
        .args([
            "-Ctarget-cpu=x86-64",
            "-Crelocation-model=static",
            "-Cforce-unwind-tables=no",
            "-Cdebuginfo=0",
        ])
        .args([
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-static",
            "-Clink-arg=-no-pie",
        ])
        .args([
            "-Clink-arg=-Wl,--build-id=none,--gc-sections,--oformat=binary",
            "-Dwarnings",
        ])
        .arg(format!("-Clink-arg=-Wl,-T,{}", script.display()))
        .arg("-o")
        .arg(&image)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .unwrap_or_else(|e| panic!("cannot start the compiler: {e}"));
    assert!(status.success(), "the library does not compile");
}
