//! Several rr at once take different CPUs.

use std::process::Command;

use rr_tests::Rr;

/// The CPU that a trace was recorded on.
fn cpu_of(rr: &Rr, trace: &std::path::Path) -> u64 {
    let trace = trace.to_str().unwrap();
    let info = rr.rr(["traceinfo", trace]).expect_success().out();
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    info["bindToCpu"].as_u64().unwrap()
}

/// In a network namespace of its own: claims of other tests are not seen there.
#[test]
fn recordings_at_once_take_different_cpus() {
    let rr = Rr::new();
    let allowed = std::thread::available_parallelism().unwrap().get();
    let is_possible = Command::new("unshare").args(["-rn", "true"]).status();
    if allowed < 2 || !is_possible.is_ok_and(|status| status.success()) {
        eprintln!("skipped: one CPU, or no network namespaces for this user");
        return;
    }
    let dir = rr.new_dir();
    let script = r#"
        "$0" record --checkpoint-interval none -o "$1/a" sleep 3 &
        until [ -e "$1/a/header" ]; do sleep 0.05; done
        "$0" record --checkpoint-interval none -o "$1/b" true
        "$0" record --checkpoint-interval none -o "$1/c" true
        wait
    "#;
    let status = Command::new("timeout")
        .args(["60", "unshare", "-rn", "sh", "-euc", script])
        .args([rr.bin(), &dir])
        .status()
        .unwrap();
    assert!(status.success());
    let [a, b, c] = ["a", "b", "c"].map(|name| cpu_of(&rr, &dir.join(name)));
    assert!(b != a && c != a, "{a} {b} {c}");
}
