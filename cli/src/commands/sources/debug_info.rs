//! The names of source files in debug information (DWARF).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use gimli::{Dwarf, EndianSlice, LittleEndian, UnitRef};
use object::{Object, ObjectSection};

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// A unit whose debug information is in a file of its own (`-gsplit-dwarf`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Split {
    name: PathBuf,
    compiled_in: PathBuf,
    id: u64,
}

impl Split {
    /// The unit as JSON.
    pub fn json(&self) -> serde_json::Value {
        let full = self.compiled_in.join(&self.name);
        let id = format!("{:016x}", self.id);
        serde_json::json!({ "name": self.name, "comp_dir": self.compiled_in, "full_path": full, "id": id })
    }
}

/// The files that debug information names.
#[derive(Default, Debug)]
pub struct DebugInfo {
    /// Source files by their whole names (as far as these are known).
    pub sources: BTreeSet<PathBuf>,
    /// The other source files, after the directory that their unit was compiled in.
    relative: BTreeSet<(PathBuf, PathBuf)>,
    /// Units in files of their own.
    pub split: BTreeSet<Split>,
}

impl DebugInfo {
    /// Returns whether no file is named.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.relative.is_empty() && self.split.is_empty()
    }

    /// Adds all of `other`, whose units were compiled in `compiled_in`, if that is known better.
    pub fn add(&mut self, other: DebugInfo, compiled_in: Option<&Path>) {
        let directory = |of_unit: PathBuf| compiled_in.map_or(of_unit, Path::to_owned);
        self.sources.extend(other.sources);
        let relative = other.relative.into_iter();
        self.sources
            .extend(relative.map(|(unit, name)| tidy(&directory(unit).join(name))));
        self.split.extend(other.split.into_iter().map(|split| Split {
            compiled_in: directory(split.compiled_in),
            ..split
        }));
    }

    /// The files that the debug information of a file names; `shared` is a file with parts that several have in common (dwz(1)).
    /// Units that cannot be understood are left out.
    pub fn read(file: &object::File<'_>, shared: Option<&object::File<'_>>) -> DebugInfo {
        let sections = Sections::of(file);
        let shared = shared.map(Sections::of);
        let mut dwarf = sections.dwarf();
        if let Some(shared) = &shared {
            dwarf.set_sup(shared.dwarf());
        }
        let mut info = DebugInfo::default();
        let mut units = dwarf.units();
        while let Ok(Some(header)) = units.next() {
            if let Ok(unit) = dwarf.unit(header) {
                info.read_unit(unit.unit_ref(&dwarf));
            }
        }
        info
    }

    fn read_unit(&mut self, unit: UnitRef<'_, Reader<'_>>) {
        let compiled_in = unit.comp_dir.map_or_else(PathBuf::new, |dir| path(&dir));
        if let (Ok(Some(name)), Some(id)) = (unit.dwo_name(), unit.dwo_id)
            && let Ok(name) = unit.attr_string(name)
        {
            self.split.insert(Split {
                name: path(&name),
                compiled_in: compiled_in.clone(),
                id: id.0,
            });
        }
        if let Some(name) = unit.name {
            self.add_source(&compiled_in, path(&name));
        }
        let Some(program) = &unit.line_program else { return };
        let header = program.header();
        for file in header.file_names() {
            let Ok(name) = unit.attr_string(file.path_name()) else {
                continue;
            };
            // Directory 0 is that of the unit.
            let directory = file.directory(header).filter(|_| file.directory_index() != 0);
            let directory = directory.and_then(|dir| unit.attr_string(dir).ok());
            let directory = directory.map_or_else(PathBuf::new, |dir| path(&dir));
            self.add_source(&compiled_in, directory.join(path(&name)));
        }
    }

    fn add_source(&mut self, compiled_in: &Path, name: PathBuf) {
        // Names of code that has no file: `<artificial>`, `<built-in>`.
        let is_file = name
            .file_name()
            .is_some_and(|name| !name.as_bytes().starts_with(b"<"));
        match name.is_absolute() {
            _ if !is_file => {}
            true => {
                self.sources.insert(tidy(&name));
            }
            false => {
                self.relative.insert((compiled_in.to_owned(), name));
            }
        }
    }
}

fn path(name: &Reader<'_>) -> PathBuf {
    std::ffi::OsStr::from_bytes(name.slice()).into()
}

/// The path without `.` and, where a directory comes before it, `..`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir if matches!(tidy.components().next_back(), Some(Component::Normal(_))) => {
                tidy.pop();
            }
            Component::CurDir => {}
            other => tidy.push(other),
        }
    }
    tidy
}

/// The sections of a file that hold debug information, unpacked.
struct Sections<'a>(gimli::DwarfSections<Cow<'a, [u8]>>);

impl<'a> Sections<'a> {
    fn of(file: &object::File<'a>) -> Sections<'a> {
        let load = |id: gimli::SectionId| -> Result<Cow<'a, [u8]>, gimli::Error> {
            let section = file.section_by_name(id.name());
            Ok(section
                .and_then(|s| s.uncompressed_data().ok())
                .unwrap_or_default())
        };
        Sections(gimli::DwarfSections::load(load).unwrap_or_default())
    }

    fn dwarf(&self) -> Dwarf<Reader<'_>> {
        self.0.borrow(|section| EndianSlice::new(section, LittleEndian))
    }
}
