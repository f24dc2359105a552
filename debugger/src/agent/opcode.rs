//! The operations of agent expressions (GDB manual, "Bytecode Descriptions").

macro_rules! opcodes {
    ($($name:ident = $value:literal),* $(,)?) => { $(pub const $name: u8 = $value;)* };
}

opcodes! {
    ADD = 0x02, SUB = 0x03, MUL = 0x04, DIV_SIGNED = 0x05, DIV_UNSIGNED = 0x06, REM_SIGNED = 0x07, REM_UNSIGNED = 0x08,
    LSH = 0x09, RSH_SIGNED = 0x0a, RSH_UNSIGNED = 0x0b, LOG_NOT = 0x0e, BIT_AND = 0x0f, BIT_OR = 0x10, BIT_XOR = 0x11,
    BIT_NOT = 0x12, EQUAL = 0x13, LESS_SIGNED = 0x14, LESS_UNSIGNED = 0x15, EXT = 0x16, REF8 = 0x17, REF16 = 0x18,
    REF32 = 0x19, REF64 = 0x1a, IF_GOTO = 0x20, GOTO = 0x21, CONST8 = 0x22, CONST16 = 0x23, CONST32 = 0x24,
    CONST64 = 0x25, REG = 0x26, END = 0x27, DUP = 0x28, POP = 0x29, ZERO_EXT = 0x2a, SWAP = 0x2b, PICK = 0x32, ROT = 0x33,
}
