use super::*;

/// A state in which every byte differs from its neighbours, as long as this machine's.
fn file() -> RegisterFile {
    let size = std::arch::x86_64::__cpuid_count(0xd, 0).ecx as usize;
    let mut bytes: Vec<u8> = (0..size.max(832)).map(|n| (n * 7 % 251) as u8).collect();
    bytes[464..576].fill(0);
    let mut words = [0; Registers::WORDS];
    (0u64..)
        .zip(&mut words)
        .for_each(|(n, word)| *word = 0x1111 * (n + 1));
    RegisterFile {
        general: Registers::from_words(&words),
        extended: ExtendedState(bytes),
    }
}

#[test]
fn every_register_takes_a_value_and_gives_it_back() {
    let file = file();
    let layout = Layout::of(&file.extended);
    for register in layout.registers() {
        let mut changed = file.clone();
        let old = register.read(&file).unwrap();
        assert_eq!(old.len(), register.len, "{}", register.name);
        let new: Vec<u8> = match register.place {
            Place::Area(_, _, len) => (0..register.len)
                .map(|n| if n < len { !old[n] } else { 0 })
                .collect(),
            Place::Word(_) => old.iter().map(|byte| !byte).collect(),
            // These registers are in use; the rest follows from their values.
            Place::Tags => vec![0xff, 0xff, 0, 0],
        };
        assert!(register.write(&mut changed, &new), "{}", register.name);
        assert_eq!(register.read(&changed).unwrap(), new, "{}", register.name);
        // Nothing else changed.
        for other in layout
            .registers()
            .iter()
            .filter(|other| other.name != register.name)
        {
            let depends = other.place == Place::Tags || register.name == "fstat" || register.name == "ftag";
            assert!(
                depends || other.read(&file) == other.read(&changed),
                "{} {}",
                register.name,
                other.name
            );
        }
        assert!(register.write(&mut changed, &old));
        assert!(!register.write(&mut changed, &old[1..]));
    }
}

#[test]
fn names_are_those_of_gdb_and_numbers_those_of_conditions() {
    let file = file();
    let layout = Layout::of(&file.extended);
    let number = |name: &str| layout.registers().iter().position(|r| r.name == name).unwrap();
    assert_eq!([number("rbp"), number("rsp"), number("rip")], [RBP, RSP, RIP]);
    assert_eq!(
        [number("st0"), number("fctrl"), number("xmm0"), number("mxcsr")],
        [24, 32, 40, 56]
    );
    assert_eq!(
        [number("orig_rax"), number("fs_base"), number("gs_base")],
        [57, 58, 59]
    );
    for n in (0..24).chain(57..60) {
        let mut bytes = layout.registers()[n].read(&file).unwrap();
        bytes.resize(8, 0);
        let value = u64::from_le_bytes(bytes.try_into().unwrap());
        assert_eq!(
            general(&file.general, n),
            Some(value),
            "{}",
            layout.registers()[n].name
        );
    }
    assert_eq!(general(&file.general, 24), None);
    let names = rr_tracee::regs::REGISTER_NAMES;
    for (name, word) in CORE {
        assert_eq!(names[word], name);
    }
}

#[test]
fn the_description_has_every_register_once() {
    let layout = Layout::of(&file().extended);
    let xml = layout.description();
    assert_eq!(xml.matches("<reg ").count(), layout.registers().len());
    for register in layout.registers() {
        assert_eq!(
            xml.matches(&format!("name=\"{}\"", register.name)).count(),
            1,
            "{}",
            register.name
        );
    }
    let bits: usize = xml
        .split("bitsize=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(bits, 8 * layout.len());
}

#[test]
fn states_shorter_than_expected() {
    let full = file();
    for len in [0, 1, 100, 511, 512, 576, 831] {
        let mut short = full.clone();
        short.extended.0.truncate(len);
        let layout = Layout::of(&short.extended);
        assert_eq!(layout.registers().len(), 60, "{len}");
        for register in Layout::of(&full.extended).registers() {
            if let Some(bytes) = register.read(&short) {
                assert!(register.write(&mut short, &bytes));
            }
        }
    }
}

#[test]
fn tags() {
    let mut file = file();
    file.extended.0[..576].fill(0);
    // Registers 6 and 7 are in use, the top is 6: st0 is 1.0, st1 is 0.
    file.extended.0[STATUS + 1] = 6 << 3;
    file.extended.0[TAGS] = 0xc0;
    file.extended.0[39] = 0x80;
    file.extended.0[40..42].copy_from_slice(&0x3fffu16.to_le_bytes());
    assert_eq!(full_tags(&file.extended), Some(0b01_00_11_11_11_11_11_11));
}
