//! Real programs with `auto`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rr_tests::programs::{self as inputs, is_installed, shell};

use crate::args::Args;
use crate::helpers::fresh;
use crate::measure::{mb, median, percentile, rr_line, time, trace_info};

/// The user that programs run as that refuse to run as root (`nobody`).
const NOBODY: u32 = 65534;

struct Program {
    name: &'static str,
    /// The program that it cannot do without.
    needs: &'static str,
    script: String,
    as_nobody: bool,
}

const PYTHON: &str = r"
import re, json, random
random.seed(1)
held = []
for n in range(ROUNDS):
    held.append({str(i): [random.random(), i * n] for i in range(20000)})
    held = held[-20:]
    text = json.dumps(held[-1])
    assert json.loads(text) == held[-1]
    len(re.findall(r'[0-9]+\.[0-9]+', text))
    with open('out', 'w') as out:
        for line in range(5000):
            print(line, file=out, flush=True)
";

const POSTGRES: &str = r#"set -eu
PATH="$(echo /usr/lib/postgresql/*/bin | tr ' ' '\n' | tail -1):$PATH"
initdb -D db -A trust --no-sync >/dev/null
pg_ctl -D db -o "-F -k $PWD -h ''" -l log -w start >/dev/null
createdb -h "$PWD" test
psql -q -h "$PWD" test -c "create table a(i int primary key, s text)"
seq 1 ROWS | sed 's/.*/insert into a values(&, md5(&::text));/' | psql -q -h "$PWD" test
pg_ctl -D db -m fast -w stop >/dev/null
"#;

fn all(args: &Args) -> Vec<Program> {
    let scale = |n: usize| match (args.quick, args.full) {
        (true, _) => n / 10,
        (_, false) => n,
        (_, true) => n * 4,
    };
    vec![
        Program {
            name: "sqlite3",
            needs: "sqlite3",
            script: "sqlite3 test.db < in.sql".into(),
            as_nobody: false,
        },
        Program {
            name: "gcc -O2 -c",
            needs: "gcc",
            script: "gcc -O2 -c big.c".into(),
            as_nobody: false,
        },
        Program {
            name: "python3",
            needs: "python3",
            script: format!(
                "python3 - <<'END'\n{}END",
                PYTHON.replace("ROUNDS", &scale(40).to_string())
            ),
            as_nobody: false,
        },
        Program {
            name: "postgres",
            needs: "pg_ctl",
            script: POSTGRES.replace("ROWS", &scale(2000).to_string()),
            as_nobody: true,
        },
    ]
}

/// Prints the table.
pub fn report(args: &Args, rr: &Path, work: &Path) -> Result<()> {
    println!(
        "| program with `auto` | native | record | with checkpoints | of record | checkpoints | pause, median | 99 % | \
         bytes of the first | of the others, median |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let rows = if args.quick { 10_000 } else { 100_000 };
    for program in all(args) {
        let postgres = Path::new("/usr/lib/postgresql");
        let is_elsewhere = program.needs == "pg_ctl" && postgres.exists();
        if !is_installed(program.needs) && !is_elsewhere {
            println!("| {} | not installed | | | | | | | | |", program.name);
            continue;
        }
        row(args, rr, work, &program, rows).with_context(|| program.name.to_owned())?;
    }
    println!();
    Ok(())
}

fn row(args: &Args, rr: &Path, work: &Path, program: &Program, rows: usize) -> Result<()> {
    let is_root = nix_uid() == 0;
    let line: Vec<OsString> = shell(&program.script);
    let as_user = |line: Vec<OsString>| -> Vec<OsString> {
        if !program.as_nobody || !is_root {
            return line;
        }
        let id = NOBODY.to_string();
        let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        user.iter().map(OsString::from).chain(line).collect()
    };
    let prepare = || -> Result<PathBuf> {
        let dir = fresh(work, "run")?;
        std::fs::write(dir.join("in.sql"), inputs::sql(rows)).context("writing the input")?;
        std::fs::write(dir.join("big.c"), inputs::c_source(rows / 250)).context("writing the input")?;
        if program.as_nobody && is_root {
            open_to_others(work)?;
            std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).context("giving a directory away")?;
        }
        Ok(dir)
    };
    let (mut native, mut plain, mut with) = (vec![], vec![], vec![]);
    let (mut pauses, mut first, mut others, mut count) = (vec![], vec![], vec![], vec![]);
    for _ in 0..args.runs.min(3) {
        let dirs = [prepare()?, prepare()?, prepare()?];
        native.push(time(&as_user(line.clone()), &dirs[0])?.seconds);
        let record = rr_line(
            rr,
            &["record", "--checkpoint-interval", "none", "-o"],
            &dirs[1].join("trace"),
            &line,
        );
        plain.push(time(&as_user(record), &dirs[1])?.seconds);
        let options = ["record", "--checkpoint-interval", "auto", "-o"];
        let trace = dirs[2].join("trace");
        with.push(time(&as_user(rr_line(rr, &options, &trace, &line)), &dirs[2])?.seconds);
        let checkpoints = trace_info(rr, &trace)?.checkpoints;
        pauses.extend(checkpoints.iter().map(|c| c.pause_us));
        first.extend(checkpoints.first().map(|c| c.bytes as f64));
        others.extend(checkpoints.iter().skip(1).map(|c| c.bytes as f64));
        count.push(checkpoints.len() as f64);
        dirs.iter().for_each(|dir| drop(std::fs::remove_dir_all(dir)));
    }
    println!(
        "| {} | {:.2} s | {:.2} s | {:.2} s | {:.2}× | {} | {:.0} µs | {:.0} µs | {} | {} |",
        program.name,
        median(&native),
        median(&plain),
        median(&with),
        median(&with) / median(&plain),
        median(&count),
        median(&pauses),
        percentile(&pauses, 99.0),
        mb(median(&first) as u64),
        mb(median(&others) as u64),
    );
    Ok(())
}

fn nix_uid() -> u32 {
    // SAFETY: no arguments, and it cannot fail.
    unsafe { libc::geteuid() }
}

/// Lets other users into a directory of ours.
fn open_to_others(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).context("opening a directory")
}
