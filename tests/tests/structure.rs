//! The structure of the crates: no files import each other in a circle, and no type owns everything. And the structure of these tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rr_tests::imports::{Circle, Imports, Size};

/// Crates whose types may have at most so many fields and methods.
const MEASURED: [&str; 2] = ["recorder/src", "replayer/src"];
const MOST: Size = size(12, 40);

/// Types that are larger, with their sizes and the reason. The sizes may only shrink.
const LARGE: &[(&str, &str, Size, &str)] = &[];

const fn size(fields: usize, methods: usize) -> Size {
    Size { fields, methods }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The roots of all crates, by their directory.
fn roots() -> BTreeMap<String, PathBuf> {
    let mut roots = BTreeMap::new();
    for entry in std::fs::read_dir(repository()).unwrap() {
        let dir = entry.unwrap().file_name().into_string().unwrap();
        for source in ["src", "library"] {
            for root in ["lib.rs", "main.rs"] {
                let file = repository().join(&dir).join(source).join(root);
                if file.exists() {
                    roots.insert(format!("{dir}/{source}"), file);
                }
            }
        }
    }
    roots
}

fn files_in(circles: &[Circle]) -> usize {
    circles.iter().map(|circle| circle.files.len()).sum()
}

#[test]
fn no_files_import_each_other() {
    let roots = roots();
    for name in [
        "checkpoint/src",
        "cli/src",
        "debugger/src",
        "preload/library",
        "recorder/src",
        "replayer/src",
        "trace/src",
        "tracee/src",
    ] {
        assert!(roots.contains_key(name), "{name} is not found");
    }
    let mut wrong = String::new();
    for (name, root) in roots {
        let circles = Imports::of_crate(&root).circles();
        if !circles.is_empty() {
            wrong += &format!("{name}: {} files import each other:\n", files_in(&circles));
        }
        for circle in circles {
            wrong += &format!("  {}\n", circle.ties.join("\n  "));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn no_type_owns_everything() {
    let roots = roots();
    let mut wrong = String::new();
    for dir in MEASURED {
        let sizes = Imports::of_crate(&roots[dir]).sizes();
        assert!(sizes.len() > 50, "{dir}: {} types", sizes.len());
        for (name, found) in &sizes {
            let large = LARGE.iter().find(|large| (large.0, large.1) == (dir, name));
            let allowed = large.map_or(MOST, |(_, _, size, _)| *size);
            if found.fields > allowed.fields || found.methods > allowed.methods {
                wrong += &format!("{dir}: {name} has {found:?}, and may have {allowed:?}\n");
            }
            if large.is_some() && *found != allowed {
                wrong += &format!("{dir}: {name} has only {found:?}: write that into this test\n");
            }
        }
        for (_, name, ..) in LARGE.iter().filter(|large| large.0 == dir) {
            assert!(sizes.contains_key(*name), "{dir}: {name} is not found");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A crate in which `a` needs `b`, `b` needs `c::inner`, and `c` re-exports a type of `inner`, which
/// contains the path `needs`.
fn example(needs: &str) -> Vec<Circle> {
    let tmp = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = tmp.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    file("lib.rs", "mod a;\nmod b;\npub mod c;\npub use a::A;");
    file("a.rs", "use crate::b::B;\npub struct A(B);");
    file("b.rs", "pub struct B(crate::c::Inner);");
    file("c.rs", "mod inner;\npub use inner::Inner;");
    file(
        "c/inner.rs",
        &format!("pub struct Inner;\npub fn f() {{ {needs} }}"),
    );
    let imports = Imports::of_crate(&tmp.path().join("lib.rs"));
    assert_eq!(imports.files(), 5);
    imports.circles()
}

#[test]
fn a_circle_is_found() {
    assert!(example("std::mem::drop(1)").is_empty());
    for needs in ["super::super::a::nothing()", "crate::A::nothing()"] {
        let circles = example(needs);
        assert_eq!(circles.len(), 1, "{circles:?}");
        let names = circles[0].files.iter().map(|file| file.file_name().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["a.rs", "b.rs", "inner.rs"]);
        assert_eq!(circles[0].ties.len(), 3, "{:?}", circles[0].ties);
    }
    // A re-export leads past the re-exporting file. A name of its own does not.
    assert_eq!(files_in(&example("super::own()")), 0);
}

/// The Rust files in a directory and below.
fn files_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let count = |path: PathBuf| match path.is_dir() {
        true => files_below(&path),
        false => usize::from(path.extension().is_some_and(|extension| extension == "rs")),
    };
    entries.map(count).sum()
}

/// A file that `main.rs` does not name would never run.
#[test]
fn every_file_of_tests_is_a_module() {
    let dir = repository().join("tests/tests");
    let modules = Imports::of_crate(&dir.join("main.rs")).files();
    assert_eq!(
        files_below(&dir),
        modules,
        "a file in tests/tests is no module, see main.rs"
    );
}
