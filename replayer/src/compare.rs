//! Comparing a session with a stored checkpoint of the same event (I4).

use std::fmt;

use rr_checkpoint::{
    Checkpoint, Difference, PageTarget, Untouched, compare_images, compare_object, compare_space,
};
use rr_trace::Member;
use rr_tracee::Memory;

use crate::error::Result;
use crate::own_code::with_own_code;
use crate::session::ReplaySession;
use crate::symbols;

/// The differences between a session and a checkpoint.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Mismatch {
    /// Differences of tasks, registers and mappings, in words: first the stored value, then the
    /// replayed one.
    pub image: Vec<String>,
    /// Number of pages that differ.
    pub pages: u64,
    /// The first of these pages, ascending in each address space.
    pub first: Vec<Difference>,
    /// The symbol that contains the first differing byte, with the distance from the symbol's
    /// beginning.
    pub symbol: Option<String>,
}

impl Mismatch {
    /// Returns whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.image.is_empty() && self.pages == 0
    }
}

/// Bytes as hexadecimal numbers, and as text.
fn bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    if bytes.is_empty() {
        return f.write_str("cannot be read");
    }
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x} "))?;
    let shown = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '.',
    };
    let text: String = bytes.iter().map(shown).collect();
    write!(f, " |{text}|")
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.image.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        for (n, page) in self.first.iter().enumerate() {
            writeln!(f, "{page}")?;
            if n == 0 {
                if let Some(symbol) = &self.symbol {
                    writeln!(f, "  in {symbol}")?;
                }
                for (what, row) in [("recorded", &page.line.expected), ("replayed", &page.line.found)] {
                    write!(f, "  {what} {}: ", page.line.addr)?;
                    bytes(f, row)?;
                    writeln!(f)?;
                }
            }
        }
        match self.pages {
            0 => Ok(()),
            1 => writeln!(f, "1 page differs"),
            pages => writeln!(f, "{pages} pages differ"),
        }
    }
}

impl ReplaySession {
    /// Compares the session with a checkpoint at the same event: image and every page. Reports at most
    /// `limit` pages.
    pub fn compare(&self, checkpoint: &Checkpoint, limit: usize) -> Result<Mismatch> {
        with_own_code(self, || compare_all(self, checkpoint, limit))
    }
}

fn compare_all(session: &ReplaySession, checkpoint: &Checkpoint, limit: usize) -> Result<Mismatch> {
    let mut mismatch = Mismatch {
        image: compare_images(checkpoint.image(), &session.image()?),
        ..Mismatch::default()
    };
    for (id, model) in &session.world.spaces {
        let Some(task) = session.world.tasks.values().find(|t| t.space == *id) else {
            continue;
        };
        if !checkpoint.image().spaces.iter().any(|s| s.id == *id) {
            continue;
        }
        let open = |untouched| match untouched {
            Untouched::File(file) => Ok(session.events.reader.open_file(file)?),
            Untouched::Object(id) => match session.world.backings.objects.get(&id) {
                Some(object) => Ok(Member::whole(object.file.try_clone()?, "(shared memory)".into())),
                None => Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
            },
        };
        let live = Memory::of(task.real);
        let found = compare_space(checkpoint, *id, model, &live, &open, limit)?;
        mismatch.pages += found.pages;
        mismatch.first.extend(found.first);
    }
    // Objects that are files of the trace have been compared with the image.
    for object in checkpoint.image().objects.iter().filter(|o| o.content.is_none()) {
        if let Some(made) = session.world.backings.objects.get(&object.id) {
            let found = compare_object(checkpoint, object.id, &made.file, limit)?;
            mismatch.pages += found.pages;
            mismatch.first.extend(found.first);
        }
    }
    mismatch.first.truncate(limit);
    mismatch.symbol = mismatch.first.first().and_then(|page| match page.target {
        PageTarget::Space(id) => {
            symbols::nearest(&session.events.reader, session.world.spaces.get(&id)?, page.addr)
        }
        PageTarget::Object(_) => None,
    });
    Ok(mismatch)
}
