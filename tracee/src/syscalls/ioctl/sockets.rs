//! Sockets and network interfaces (netdevice(7)).

use super::super::forms::{push, push_whole, read_u32, unless_died};
use super::super::options::{all_written, pointed};
use super::super::spec::{Holder, Part, ReadPart, Written};
use super::request::{POINTER, Request, computed, get, set};
use crate::error::Result;
use crate::ids::Addr;
use crate::memory::ReadMemory;
use crate::regs::Registers;

/// `struct ifreq`.
const IFREQ: u64 = 40;
/// `struct arpreq`.
const ARPREQ: u64 = 68;
const INT: u64 = 4;

#[rustfmt::skip] // one request, one line
pub(super) static REQUESTS: &[Request] = &[
    set(0x8901, "FIOSETOWN"),
    set(0x8902, "SIOCSPGRP"),
    get(0x8903, "FIOGETOWN", INT),
    get(0x8904, "SIOCGPGRP", INT),
    get(0x8905, "SIOCATMARK", INT),
    get(0x8906, "SIOCGSTAMP", 16),
    get(0x8907, "SIOCGSTAMPNS", 16),
    get(0x894b, "SIOCOUTQNSD", INT),
    set(0x894c, "SIOCGSKNS"), // the result is a descriptor
    get(0x89e0, "SIOCUNIXFILE or SIOCGETVIFCNT", 40), // a descriptor, or struct sioc_vif_req
    get(0x89e1, "SIOCGETSGCNT", 32),
    set(0x890b, "SIOCADDRT"),
    set(0x890c, "SIOCDELRT"),

    get(0x8910, "SIOCGIFNAME", IFREQ),
    computed(0x8912, "SIOCGIFCONF", ifconf_parts, ifconf_written),
    get(0x8913, "SIOCGIFFLAGS", IFREQ),
    set(0x8914, "SIOCSIFFLAGS"),
    get(0x8915, "SIOCGIFADDR", IFREQ),
    set(0x8916, "SIOCSIFADDR"),
    get(0x8917, "SIOCGIFDSTADDR", IFREQ),
    set(0x8918, "SIOCSIFDSTADDR"),
    get(0x8919, "SIOCGIFBRDADDR", IFREQ),
    set(0x891a, "SIOCSIFBRDADDR"),
    get(0x891b, "SIOCGIFNETMASK", IFREQ),
    set(0x891c, "SIOCSIFNETMASK"),
    get(0x891d, "SIOCGIFMETRIC", IFREQ),
    set(0x891e, "SIOCSIFMETRIC"),
    get(0x891f, "SIOCGIFMEM", IFREQ),
    set(0x8920, "SIOCSIFMEM"),
    get(0x8921, "SIOCGIFMTU", IFREQ),
    set(0x8922, "SIOCSIFMTU"),
    get(0x8923, "SIOCSIFNAME", IFREQ),
    set(0x8924, "SIOCSIFHWADDR"),
    get(0x8925, "SIOCGIFENCAP", IFREQ),
    set(0x8926, "SIOCSIFENCAP"),
    get(0x8927, "SIOCGIFHWADDR", IFREQ),
    get(0x8929, "SIOCGIFSLAVE", IFREQ),
    set(0x8930, "SIOCSIFSLAVE"),
    set(0x8931, "SIOCADDMULTI"),
    set(0x8932, "SIOCDELMULTI"),
    get(0x8933, "SIOCGIFINDEX", IFREQ),
    set(0x8934, "SIOCSIFPFLAGS"),
    computed(0x8940, "SIOCGIFBR", bridge_parts, all_written),
    computed(0x8941, "SIOCSIFBR", bridge_parts, all_written),
    get(0x8935, "SIOCGIFPFLAGS", IFREQ),
    set(0x8936, "SIOCDIFADDR"),
    set(0x8937, "SIOCSIFHWBROADCAST"),
    get(0x8938, "SIOCGIFCOUNT", IFREQ),
    get(0x8942, "SIOCGIFTXQLEN", IFREQ),
    set(0x8943, "SIOCSIFTXQLEN"),
    computed(0x8946, "SIOCETHTOOL", ethtool_parts, all_written),
    get(0x8947, "SIOCGMIIPHY", IFREQ),
    get(0x8948, "SIOCGMIIREG", IFREQ),
    set(0x8949, "SIOCSMIIREG"),
    set(0x8953, "SIOCDARP"),
    get(0x8954, "SIOCGARP", ARPREQ),
    set(0x8955, "SIOCSARP"),
    get(0x8970, "SIOCGIFMAP", IFREQ),
    set(0x8971, "SIOCSIFMAP"),
    get(0x8982, "SIOCGIFVLAN", 56),
    set(0x8990, "SIOCBONDENSLAVE"),
    set(0x8991, "SIOCBONDRELEASE"),
    set(0x8992, "SIOCBONDSETHWADDR"),
    computed(0x8993, "SIOCBONDSLAVEINFOQUERY", slave_parts, all_written),
    computed(0x8994, "SIOCBONDINFOQUERY", bond_parts, all_written),
    set(0x8995, "SIOCBONDCHANGEACTIVE"),
    computed(0x89b0, "SIOCSHWTSTAMP", stamps_parts, all_written),
    computed(0x89b1, "SIOCGHWTSTAMP", stamps_parts, all_written),
    set(0x8983, "SIOCSIFVLAN"),
    set(0x89a0, "SIOCBRADDBR"),
    set(0x89a1, "SIOCBRDELBR"),
    set(0x89a2, "SIOCBRADDIF"),
    set(0x89a3, "SIOCBRDELIF"),
    get(0x8b01, "SIOCGIWNAME", 32),

    // Their numbers say "write an int", but the kernel returns an interface request.
    get(0x4004_54ca, "TUNSETIFF", IFREQ),
    get(0x8004_54d2, "TUNGETIFF", IFREQ),
];

/// ```text
/// struct ifconf   0 length of the buffer, afterwards of what is in it (int)   8 buffer (pointer, may be null)
/// ```
fn ifconf_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let conf = Part {
        holder: Holder::Arg(POINTER),
        addr: Addr(r.arg(2)),
        len: 16,
        copy_in: true,
    };
    let Some(conf) = push_whole(&mut parts, conf, mem)? else {
        return Ok(parts);
    };
    let base = parts[conf].addr;
    let Some(len) = unless_died(mem.read_u32(base))? else {
        return Ok(parts);
    };
    let Some(buf) = unless_died(mem.read_u64(base + 8))? else {
        return Ok(parts);
    };
    let len = u64::try_from(len as i32).unwrap_or(0);
    let holder = Holder::Within {
        part: conf,
        offset: 8,
    };
    push(
        &mut parts,
        Part {
            holder,
            addr: Addr(buf),
            len,
            copy_in: true,
        },
        mem,
    )?;
    Ok(parts)
}

fn ifconf_written(_: &Registers, parts: &[Part], result: i64, read: &ReadPart<'_>) -> Result<Vec<Written>> {
    if parts.is_empty() || result < 0 {
        return Ok(Vec::new());
    }
    let mut out = vec![Written {
        part: 0,
        offset: 0,
        len: 4,
    }];
    if let (Some(buffer), Some(len)) = (parts.get(1), read_u32(read, 0, 0)?) {
        out.push(Written {
            part: 1,
            offset: 0,
            len: buffer.len.min(u64::from(len)),
        });
    }
    Ok(out)
}

/// Sizes of the structures of the ethtool commands (`<linux/ethtool.h>`) that answer with a structure
/// of a fixed size. The other commands that answer carry arrays; see [`ethtool_parts`].
const ETHTOOL: [(u32, u64); 20] = [
    (0x01, 44),  // GSET
    (0x03, 196), // GDRVINFO
    (0x05, 20),  // GWOL
    (0x07, 8),   // GMSGLVL
    (0x0a, 8),   // GLINK
    (0x0e, 92),  // GCOALESCE
    (0x10, 36),  // GRINGPARAM
    (0x12, 16),  // GPAUSEPARAM
    (0x14, 8),   // GRXCSUM
    (0x16, 8),   // GTXCSUM
    (0x18, 8),   // GSG
    (0x1e, 8),   // GTSO
    (0x21, 8),   // GUFO
    (0x23, 8),   // GGSO
    (0x25, 8),   // GFLAGS
    (0x27, 8),   // GPFLAGS
    (0x2b, 8),   // GGRO
    (0x3c, 36),  // GCHANNELS
    (0x41, 44),  // GET_TS_INFO
    (0x44, 40),  // GEEE
];

/// Maximum size that an ethtool command with an array may write, limited to readable memory. Register
/// and EEPROM dumps can exceed it.
const ETHTOOL_ARRAY: u64 = 1 << 16;

/// The interface request, which the kernel returns, holds behind the name a pointer to a structure that
/// begins with a command.
fn ethtool_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    interface_parts(r, mem, |data| {
        let Some(command) = unless_died(mem.read_u32(data))? else {
            return Ok(0);
        };
        let known = ETHTOOL.iter().find(|(c, _)| *c == command);
        Ok(known.map_or(ETHTOOL_ARRAY, |(_, len)| *len))
    })
}

/// `struct ifslave`.
fn slave_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    interface_parts(r, mem, |_| Ok(28))
}

/// `struct ifbond`.
fn bond_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    interface_parts(r, mem, |_| Ok(12))
}

/// `struct hwtstamp_config`.
fn stamps_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    interface_parts(r, mem, |_| Ok(12))
}

/// An interface request with a pointer behind the name, and the memory behind that: `len` returns its
/// length.
fn interface_parts(
    r: &Registers,
    mem: &dyn ReadMemory,
    len: impl Fn(Addr) -> Result<u64>,
) -> Result<Vec<Part>> {
    const DATA: u64 = 16;
    let mut parts = Vec::new();
    let ifreq = Part {
        holder: Holder::Arg(POINTER),
        addr: Addr(r.arg(2)),
        len: IFREQ,
        copy_in: true,
    };
    let Some(ifreq) = push_whole(&mut parts, ifreq, mem)? else {
        return Ok(parts);
    };
    let Some(data) = unless_died(mem.read_u64(parts[ifreq].addr + DATA))? else {
        return Ok(parts);
    };
    if data == 0 {
        return Ok(parts);
    }
    let holder = Holder::Within {
        part: ifreq,
        offset: DATA,
    };
    let part = Part {
        holder,
        addr: Addr(data),
        len: len(Addr(data))?,
        copy_in: true,
    };
    push(&mut parts, part, mem)?;
    Ok(parts)
}

/// Four words: a command; for the command that lists bridges, the address for their numbers (`int`),
/// and the maximum count.
fn bridge_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    const GET_BRIDGES: u32 = 1;
    let mut parts = Vec::new();
    let words = Part {
        holder: Holder::Arg(POINTER),
        addr: Addr(r.arg(2)),
        len: 24,
        copy_in: true,
    };
    if let Some(words) = push_whole(&mut parts, words, mem)?
        && unless_died(mem.read_u32(parts[words].addr))? == Some(GET_BRIDGES)
    {
        pointed(words, (16, INT), 8, &mut parts, mem)?;
    }
    Ok(parts)
}
