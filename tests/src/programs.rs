//! Inputs for tests with real programs: generated, so that nothing is downloaded and sizes can be
//! chosen.
//!
//! Everything here depends only on its arguments: two calls make the same files.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// xorshift64*: the same sequence everywhere.
pub struct Random(u64);

impl Random {
    /// A sequence for a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(2_685_821_657_736_338_717)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

/// Returns whether a program is in the `PATH`.
pub fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// `sh -c script` as a command line.
pub fn shell(script: &str) -> Vec<OsString> {
    ["/bin/sh", "-c", script].map(OsString::from).to_vec()
}

/// Text of about `bytes` bytes: lines of words and numbers, as compressible as logs are.
pub fn text(bytes: usize) -> String {
    const WORDS: [&str; 12] = [
        "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo",
        "lima",
    ];
    let mut random = Random::new(17);
    let mut out = String::with_capacity(bytes + 80);
    while out.len() < bytes {
        let _ = write!(out, "{}", random.below(100_000));
        for _ in 0..6 {
            out.push(' ');
            out.push_str(WORDS[random.below(12) as usize]);
        }
        out.push('\n');
    }
    out
}

/// Writes `text(bytes)` to a file.
pub fn text_file(path: &Path, bytes: usize) {
    fs::write(path, text(bytes)).expect("write an input file");
}

/// A directory tree of `files` small text files, twenty in a directory.
pub fn tree(root: &Path, files: usize) {
    let line = text(2000);
    for i in 0..files {
        let dir = root.join(format!("d{}", i / 20));
        fs::create_dir_all(&dir).expect("a directory of the tree");
        fs::write(
            dir.join(format!("file{i}.txt")),
            format!("{i}\n{}", &line[..i % 1800]),
        )
        .expect("a file of the tree");
    }
}

/// SQL that inserts `rows` rows, a hundred in a transaction, and runs a few queries on them.
pub fn sql(rows: usize) -> String {
    sql_in(rows, 100)
}

/// Same as [`sql`], with another number of rows in a transaction.
pub fn sql_in(rows: usize, transaction: usize) -> String {
    let mut random = Random::new(99);
    let mut out = String::from(
        "PRAGMA synchronous=OFF;\nCREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value INTEGER, at TEXT);\n\
         CREATE INDEX by_value ON t(value);\n",
    );
    for row in 0..rows {
        if row % transaction == 0 {
            out.push_str("BEGIN;\n");
        }
        let value = random.below(1_000_000);
        let _ = writeln!(
            out,
            "INSERT INTO t(name,value,at) VALUES('name{row}',{value},datetime('now'));"
        );
        if row % transaction == transaction - 1 || row + 1 == rows {
            out.push_str("COMMIT;\n");
        }
        if row % 5000 == 4999 {
            out.push_str("SELECT count(*), sum(value), random() FROM t;\n");
        }
    }
    out.push_str(
        "SELECT count(*), sum(value), min(value), max(value) FROM t;\n\
         SELECT name, value, at FROM t WHERE value > 999000 ORDER BY value DESC LIMIT 20;\n\
         SELECT substr(name, 5, 1) AS d, count(*) FROM t GROUP BY d ORDER BY d;\n",
    );
    out
}

/// A C file of about `functions` × 12 lines.
pub fn c_source(functions: usize) -> String {
    let mut out =
        String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <math.h>\n\n");
    for i in 0..functions {
        let _ = writeln!(
            out,
            "struct s{i} {{ int a[{}]; double d; struct s{i} *next; }};\n\
             int f{i}(int n, struct s{i} *s) {{\n    int sum = {i};\n    for (int k = 0; k < n; k++) {{\n\
             \x20       sum += s->a[k % {}] * (k ^ {i});\n        if (sum % 7 == {}) s->d += sqrt((double)sum);\n\
             \x20       switch (sum & 7) {{ case 0: sum++; break; case 3: sum -= k; break; case 5: return sum; default: sum ^= k; }}\n\
             \x20   }}\n    if (s->next) sum += f{i}(n - 1, s->next);\n    return sum;\n}}\n",
            i % 30 + 1,
            i % 30 + 1,
            i % 7,
        );
    }
    out.push_str("int main(void) { puts(\"compiled\"); return 0; }\n");
    out
}

/// A Python script that imports, computes, and runs a child.
pub fn python_script() -> &'static str {
    "import json, re, os, subprocess, time, random\n\
     data = {str(i): [random.random(), time.time(), os.getpid()] for i in range(2000)}\n\
     text = json.dumps(data)\n\
     assert json.loads(text) == data\n\
     print(len(re.findall(r'[0-9]+\\.[0-9]+', text)), hash('a string'), id(data))\n\
     out = subprocess.run(['/bin/sh', '-c', 'echo child $$; exit 3'], stdout=subprocess.PIPE)\n\
     print(out.returncode, out.stdout.decode())\n\
     print(sorted(os.listdir('/'))[:5], os.environ.get('GUEST_RECORDED'))\n"
}

/// Shell commands that make a git repository of the files in the working directory, and show it.
pub const GIT: &str = "set -e; export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null; \
     git -c init.defaultBranch=main init -q .; git add .; \
     git -c user.name=rr -c user.email=rr@localhost commit -q -m first; \
     git status --short; git log --stat | tail -3; git fsck 2>/dev/null";
