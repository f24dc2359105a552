//! Comparing two images, in words for people.

use std::fmt;

use rr_tracee::{AddressSpace, Backing, FileId, Mapping};

use crate::image::{SessionImage, TaskImage};

/// In what two images of the same event differ, in words: first the number of the one, then of the other.
/// Extended state is compared normalised. Equal images give nothing.
pub fn compare_images(a: &SessionImage, b: &SessionImage) -> Vec<String> {
    let mut out = Vec::new();
    if a.event != b.event {
        out.push(format!("event: {} / {}", a.event, b.event));
    }
    if a.time_ns != b.time_ns {
        out.push(format!("time: {} ns / {} ns", a.time_ns, b.time_ns));
    }
    pairs(
        &a.tasks,
        &b.tasks,
        |t| t.tid,
        |tid| format!("task {tid}"),
        &mut out,
        compare_tasks,
    );
    pairs(
        &a.spaces,
        &b.spaces,
        |s| s.id,
        |id| format!("address space {id}"),
        &mut out,
        |a, b, out| {
            compare_mappings(&a.space, &b.space, &format!("address space {}", a.id), out);
        },
    );
    pairs(
        &a.objects,
        &b.objects,
        |o| o.id,
        |id| format!("shared memory object {}", id.0),
        &mut out,
        |a, b, out| {
            let object = format!("shared memory object {}", a.id.0);
            if a.size != b.size {
                out.push(format!("{object}: {} bytes / {} bytes", a.size, b.size));
            }
            if a.content != b.content {
                let is = |content: Option<FileId>| match content {
                    Some(file) => format!("file {file}"),
                    None => "changed".into(),
                };
                out.push(format!("{object}: {} / {}", is(a.content), is(b.content)));
            }
        },
    );
    out
}

/// Says what only one side has, and compares what both have.
fn pairs<T, K: PartialEq + Copy>(
    a: &[T],
    b: &[T],
    key: impl Fn(&T) -> K,
    name: impl Fn(K) -> String,
    out: &mut Vec<String>,
    compare: impl Fn(&T, &T, &mut Vec<String>),
) {
    for x in a {
        match b.iter().find(|y| key(y) == key(x)) {
            Some(y) => compare(x, y, out),
            None => out.push(format!("{}: there / missing", name(key(x)))),
        }
    }
    for y in b.iter().filter(|y| a.iter().all(|x| key(x) != key(y))) {
        out.push(format!("{}: missing / there", name(key(y))));
    }
}

fn compare_tasks(a: &TaskImage, b: &TaskImage, out: &mut Vec<String>) {
    let task = format!("task {}", a.tid);
    let mut say = |what: &str, a: &dyn fmt::Display, b: &dyn fmt::Display| {
        out.push(format!("{task}: {what}: {a} / {b}"));
    };
    if a.tgid != b.tgid {
        say("thread group", &a.tgid, &b.tgid);
    }
    if a.space != b.space {
        say("address space", &a.space, &b.space);
    }
    if a.exe != b.exe {
        say("program", &a.exe, &b.exe);
    }
    if a.in_syscall != b.in_syscall {
        say("in a system call", &a.in_syscall, &b.in_syscall);
    }
    for (name, x, y) in a.regs.differences(&b.regs) {
        say(name, &format!("{x:#x}"), &format!("{y:#x}"));
    }
    let (mut x, mut y) = (a.xstate.normalised(), b.xstate.normalised());
    let length = x.0.len().max(y.0.len());
    x.0.resize(length, 0);
    y.0.resize(length, 0);
    if let Some(at) = (0..length).find(|&i| x.0[i] != y.0[i]) {
        let n = x.0.iter().zip(&y.0).filter(|(a, b)| a != b).count();
        let what = format!(
            "extended state from offset {at} ({}; {n} bytes differ)",
            xsave_part(at)
        );
        say(&what, &format!("{:#04x}", x.0[at]), &format!("{:#04x}", y.0[at]));
    }
}

/// The name of the part at an offset of the XSAVE area (Intel SDM vol. 1, 13.4).
fn xsave_part(offset: usize) -> &'static str {
    match offset {
        0..24 => "x87 control",
        24..32 => "MXCSR",
        32..160 => "x87 registers",
        160..416 => "SSE registers",
        416..512 => "reserved",
        512..576 => "XSAVE header",
        576..832 => "AVX registers",
        _ => "further extended registers",
    }
}

fn compare_mappings(a: &AddressSpace, b: &AddressSpace, space: &str, out: &mut Vec<String>) {
    let describe = |m: &Mapping| {
        let right = |bit, c| if m.prot.0 & bit != 0 { c } else { '-' };
        let name = if m.name.is_empty() {
            String::new()
        } else {
            format!(" {}", m.name)
        };
        let backing = match m.backing {
            Backing::Anonymous => "anonymous".into(),
            Backing::File { file, offset } => format!("file {file} from {offset:#x}"),
            Backing::Shared { object, offset } => format!("shared object {} from {offset:#x}", object.0),
            Backing::CopyOnWrite { object, offset } => {
                format!("copy of object {} from {offset:#x}", object.0)
            }
            Backing::Rr => "rr".into(),
        };
        let fork = if m.fork == Default::default() {
            String::new()
        } else {
            format!(" fork: {:?}", m.fork)
        };
        format!(
            "{} {}{}{} {backing}{fork}{name}",
            m.range,
            right(1, 'r'),
            right(2, 'w'),
            right(4, 'x')
        )
    };
    for m in a.iter().filter(|m| b.at(m.range.start) != Some(m)) {
        out.push(format!("{space}: mapping {} / missing or different", describe(m)));
    }
    for m in b.iter().filter(|m| a.at(m.range.start) != Some(m)) {
        out.push(format!("{space}: mapping missing or different / {}", describe(m)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ObjectImage, SpaceImage};
    use rr_trace::event::EventNumber;
    use rr_tracee::ids::PAGE;
    use rr_tracee::{Addr, AddrRange, ExtendedState, ForkPolicy, ObjectId, Prot, Registers, SpaceId, Tid};

    fn task(tid: i32) -> TaskImage {
        TaskImage {
            tid: Tid(tid),
            tgid: Tid(10),
            space: SpaceId(1),
            exe: "/bin/a".into(),
            in_syscall: false,
            regs: Registers {
                rip: 0x401000,
                ..Registers::default()
            },
            xstate: ExtendedState(vec![0; 832]),
        }
    }

    fn mapping(page: u64, backing: Backing) -> Mapping {
        let range = AddrRange::sized(Addr(page * PAGE), PAGE);
        Mapping {
            range,
            prot: Prot::RW,
            backing,
            fork: ForkPolicy::Copy,
            name: "[heap]".into(),
        }
    }

    fn image() -> SessionImage {
        SessionImage {
            event: EventNumber(5),
            time_ns: 7,
            spaces: vec![SpaceImage {
                id: SpaceId(1),
                space: AddressSpace::from_mappings([
                    mapping(5, Backing::Anonymous),
                    mapping(9, Backing::Anonymous),
                ]),
            }],
            tasks: vec![task(10), task(11)],
            objects: vec![ObjectImage {
                id: ObjectId(2),
                size: 8192,
                content: Some(FileId(0xab)),
            }],
        }
    }

    /// The complaints after one change.
    fn said(change: impl FnOnce(&mut SessionImage)) -> Vec<String> {
        let mut b = image();
        change(&mut b);
        compare_images(&image(), &b)
    }

    #[test]
    fn equal_images_give_nothing() {
        assert_eq!(said(|_| {}), Vec::<String>::new());
        // Parts that XSAVE leaves undefined do not count: the software area, which component is in use.
        assert_eq!(said(|i| i.tasks[0].xstate.0[470] = 1), Vec::<String>::new());
        assert_eq!(said(|i| i.tasks[0].xstate.0[512] = 7), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_said_once_in_words() {
        assert_eq!(
            said(|i| i.tasks[1].regs.rip = 0x402000),
            ["task 11: rip: 0x401000 / 0x402000"]
        );
        assert_eq!(
            said(|i| i.tasks[0].in_syscall = true),
            ["task 10: in a system call: false / true"]
        );
        assert_eq!(
            said(|i| i.tasks[0].exe = "b".into()),
            ["task 10: program: /bin/a / b"]
        );
        assert_eq!(
            said(|i| i.tasks[0].xstate.0[170] = 9),
            ["task 10: extended state from offset 170 (SSE registers; 1 bytes differ): 0x00 / 0x09"]
        );
        assert_eq!(said(|i| drop(i.tasks.remove(0))), ["task 10: there / missing"]);
        assert_eq!(said(|i| i.tasks.push(task(12))), ["task 12: missing / there"]);
        assert_eq!(
            said(|i| i.objects[0].size = 1),
            ["shared memory object 2: 8192 bytes / 1 bytes"]
        );
        assert_eq!(
            said(|i| i.objects[0].content = None),
            ["shared memory object 2: file 000000000000000000000000000000ab / changed"]
        );
        assert_eq!(
            said(|i| i.objects.clear()),
            ["shared memory object 2: there / missing"]
        );
        assert_eq!(said(|i| i.spaces.clear()), ["address space 1: there / missing"]);
        assert_eq!(said(|i| i.event = EventNumber(6)), ["event: 5 / 6"]);
        let changed = said(|i| {
            i.spaces[0]
                .space
                .apply(&rr_tracee::SpaceOp::Map(mapping(9, Backing::Rr)));
        });
        assert_eq!(
            changed,
            [
                "address space 1: mapping 0x9000-0xa000 rw- anonymous [heap] / missing or different",
                "address space 1: mapping missing or different / 0x9000-0xa000 rw- rr [heap]",
            ]
        );
    }
}
