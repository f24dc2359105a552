//! Terminals, pseudo-terminals, serial lines, and the requests that every descriptor knows.

use super::request::{Request, get, set};

/// The kernel's `struct termios`, without the speeds.
const TERMIOS: u64 = 36;
/// `struct termio`.
const TERMIO: u64 = 18;
const INT: u64 = 4;

#[rustfmt::skip] // one request, one line
pub(super) static REQUESTS: &[Request] = &[
    get(0x5401, "TCGETS", TERMIOS),
    set(0x5402, "TCSETS"),
    set(0x5403, "TCSETSW").waits(),
    set(0x5404, "TCSETSF").waits(),
    get(0x5405, "TCGETA", TERMIO),
    set(0x5406, "TCSETA"),
    set(0x5407, "TCSETAW").waits(),
    set(0x5408, "TCSETAF").waits(),
    get(0x802c_542a, "TCGETS2", 44),
    set(0x402c_542b, "TCSETS2"),
    set(0x402c_542c, "TCSETSW2").waits(),
    set(0x402c_542d, "TCSETSF2").waits(),
    get(0x5432, "TCGETX", 16),
    set(0x5433, "TCSETX"),
    set(0x5434, "TCSETXF").waits(),
    set(0x5435, "TCSETXW").waits(),
    set(0x5409, "TCSBRK").waits(),
    set(0x5425, "TCSBRKP").waits(),
    set(0x5427, "TIOCSBRK"),
    set(0x5428, "TIOCCBRK"),
    set(0x540a, "TCXONC").waits(),
    set(0x540b, "TCFLSH"),
    set(0x540c, "TIOCEXCL"),
    set(0x540d, "TIOCNXCL"),
    set(0x540e, "TIOCSCTTY"),
    set(0x5422, "TIOCNOTTY"),
    get(0x540f, "TIOCGPGRP", INT),
    set(0x5410, "TIOCSPGRP"),
    get(0x5429, "TIOCGSID", INT),
    get(0x5411, "TIOCOUTQ", INT), // and SIOCOUTQ
    set(0x5412, "TIOCSTI"),
    get(0x5413, "TIOCGWINSZ", 8),
    set(0x5414, "TIOCSWINSZ"),
    get(0x5415, "TIOCMGET", INT),
    set(0x5416, "TIOCMBIS"),
    set(0x5417, "TIOCMBIC"),
    set(0x5418, "TIOCMSET"),
    get(0x5419, "TIOCGSOFTCAR", INT),
    set(0x541a, "TIOCSSOFTCAR"),
    get(0x541b, "FIONREAD", INT), // and TIOCINQ, SIOCINQ
    get(0x541c, "TIOCLINUX", 1), // its first byte is the subcommand, and is overwritten by the answer
    set(0x541d, "TIOCCONS"),
    get(0x541e, "TIOCGSERIAL", 72),
    set(0x541f, "TIOCSSERIAL"),
    set(0x5420, "TIOCPKT"),
    set(0x5421, "FIONBIO"),
    set(0x5423, "TIOCSETD"),
    get(0x5424, "TIOCGETD", INT),
    get(0x542e, "TIOCGRS485", 32),
    get(0x542f, "TIOCSRS485", 32), // the kernel returns the settings in force
    get(0x8004_5430, "TIOCGPTN", INT),
    set(0x4004_5431, "TIOCSPTLCK"),
    get(0x8004_5439, "TIOCGPTLCK", INT),
    get(0x8004_5438, "TIOCGPKT", INT),
    get(0x8004_5440, "TIOCGEXCL", INT),
    set(0x5441, "TIOCGPTPEER"), // the result is a descriptor
    set(0x4004_5436, "TIOCSIG"),
    set(0x5437, "TIOCVHANGUP"),
    set(0x5450, "FIONCLEX"),
    set(0x5451, "FIOCLEX"),
    set(0x5452, "FIOASYNC"),
    set(0x5453, "TIOCSERCONFIG"),
    get(0x5456, "TIOCGLCKTRMIOS", TERMIOS),
    set(0x5457, "TIOCSLCKTRMIOS"),
    get(0x5459, "TIOCSERGETLSR", INT),
    set(0x545c, "TIOCMIWAIT").waits(),
    get(0x545d, "TIOCGICOUNT", 80),
    get(0x5460, "FIOQSIZE", 8),
];
