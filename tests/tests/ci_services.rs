//! The examples for GitHub Actions and GitLab CI do what they say: their commands are run as the services run them, in a project whose
//! test passes or fails. What needs a service (actions, images, artefacts) or a network (the installation) is not run; the files that
//! the examples keep must be there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rr_tests::documents::read;
use rr_tests::programs::is_installed;
use rr_tests::{Rr, Run, documents, run};

/// An item of a list in one of the examples: its lines, without their indentation. (They use little of YAML.)
struct Item(Vec<String>);

impl Item {
    /// The items of the list under this key.
    fn all(text: &str, key: &str) -> Vec<Item> {
        let indentation = |line: &str| line.len() - line.trim_start().len();
        let mut lines = text.lines().skip_while(|line| line.trim() != format!("{key}:"));
        let depth = indentation(lines.next().unwrap_or_else(|| panic!("no {key} in the example")));
        let inside = lines.take_while(|line| line.trim().is_empty() || indentation(line) > depth);
        let mut items: Vec<Item> = Vec::new();
        for line in inside.filter(|line| !line.trim().is_empty()) {
            match line
                .trim_start()
                .strip_prefix("- ")
                .filter(|_| indentation(line) == depth + 2)
            {
                Some(first) => items.push(Item(vec![first.to_owned()])),
                None => items.last_mut().expect("an item").0.push(line.trim().to_owned()),
            }
        }
        assert!(!items.is_empty(), "nothing under {key}");
        items
    }

    /// The value of a key of the item.
    fn value(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }
}

/// A project whose test fails or passes.
struct Project {
    rr: Rr,
    dir: PathBuf,
}

impl Project {
    fn new(fails: bool) -> Project {
        let rr = Rr::new();
        let dir = rr.new_dir();
        let programs = dir.join("bin");
        std::fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(rr.bin(), programs.join("rr")).unwrap();
        let source = format!(
            "#include <stdlib.h>\nint main(void) {{\n    if ({}) abort();\n}}\n",
            i32::from(fails)
        );
        std::fs::write(dir.join("unit.c"), source).unwrap();
        std::fs::write(
            dir.join("Makefile"),
            "check: unit\n\t./unit\nunit: unit.c\n\tgcc -g -o $@ $<\n",
        )
        .unwrap();
        Project { rr, dir }
    }

    /// Runs a command of the example as a service does: a shell of its own that ends at the first failure.
    fn shell(&self, command: &str) -> Run {
        let mut shell = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        shell
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", command])
            .current_dir(&self.dir)
            .env("PATH", format!("{}:{path}", self.dir.join("bin").display()))
            .env("HOME", self.rr.home())
            .env_remove("XDG_DATA_HOME")
            .env("_RR_TRACE_DIR", self.rr.home().join("traces"))
            .env("GITHUB_STEP_SUMMARY", self.dir.join("summary.md"));
        run(&mut shell, Duration::from_secs(120))
    }

    /// The files that a path with one `*` means.
    fn files(&self, path: &str) -> Vec<PathBuf> {
        let Some((directory, extension)) = path.split_once("/*") else {
            return [self.dir.join(path)]
                .into_iter()
                .filter(|file| file.exists())
                .collect();
        };
        let entries = std::fs::read_dir(self.dir.join(directory)).into_iter().flatten();
        let files = entries.map(|entry| entry.unwrap().path());
        files
            .filter(|file| file.to_string_lossy().ends_with(extension))
            .collect()
    }

    /// The recording of the failure replays, and the log has told where it was.
    #[track_caller]
    fn check_recording(&self, test: &Run, kept: &[PathBuf]) {
        let [pack] = kept else {
            panic!("not one recording: {kept:?}\n{}", test.describe());
        };
        self.rr
            .rr(["replay".as_ref(), "-a".as_ref(), pack.as_os_str()])
            .expect_success();
        if is_installed("gdb") {
            assert!(
                test.err().contains("in main () at unit.c:3"),
                "{}",
                test.describe()
            );
        }
    }
}

fn example(name: &str) -> String {
    let path = Path::new("docs/examples").join(name);
    assert!(documents::root().join(&path).exists());
    read(&path)
}

#[test]
fn github_actions() {
    let steps = Item::all(&example("github-actions.yml"), "steps");
    for fails in [false, true] {
        let project = Project::new(fails);
        let (mut failed, mut kept, mut test) = (false, Vec::new(), None);
        for step in &steps {
            let is_for_failures = step.value("if") == Some("failure()");
            if is_for_failures != failed {
                continue;
            }
            if let Some(command) = step.value("run").filter(|command| *command != "|") {
                let run = project.shell(command);
                failed |= run.shell_status() != 0;
                test.get_or_insert(run);
            } else if let Some(path) = step.value("path") {
                kept.extend(project.files(path));
            }
        }
        assert_eq!(failed, fails);
        let summary = std::fs::read_to_string(project.dir.join("summary.md"));
        match fails {
            true => {
                assert!(summary.unwrap().contains("| make | "));
                project.check_recording(&test.expect("a test"), &kept);
            }
            false => assert!(kept.is_empty() && summary.is_err() && project.files("failures/*").is_empty()),
        }
    }
}

#[test]
fn gitlab() {
    let text = example("gitlab-ci.yml");
    let list = |key| {
        Item::all(&text, key)
            .into_iter()
            .map(|item| item.0.join(" "))
            .collect::<Vec<_>>()
    };
    for fails in [false, true] {
        let project = Project::new(fails);
        let [command] = &list("script")[..] else {
            panic!("not one command");
        };
        let test = project.shell(command);
        assert_eq!(test.shell_status() != 0, fails, "{}", test.describe());
        for command in list("after_script") {
            project.shell(&command).expect_success();
        }
        let kept: Vec<PathBuf> = list("paths")
            .iter()
            .flat_map(|path| project.files(path))
            .collect();
        let (packs, others): (Vec<_>, Vec<_>) = kept
            .into_iter()
            .partition(|file| file.extension().is_some_and(|e| e == "rrpack"));
        let report = std::fs::read_to_string(&others[0]).unwrap();
        match fails {
            true => {
                assert!(report.contains("| make | "), "{report}");
                project.check_recording(&test, &packs);
            }
            false => assert!(packs.is_empty() && report.contains("No test"), "{report}"),
        }
    }
}
