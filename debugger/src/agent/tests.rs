use proptest::prelude::*;

use super::opcode::*;
use super::*;

/// Memory in which the byte at an address is its lowest byte; nothing lies below 0x1000.
fn memory(addr: Addr, buf: &mut [u8]) -> bool {
    (addr.0..)
        .zip(buf.iter_mut())
        .for_each(|(at, byte)| *byte = at as u8);
    addr.0 >= 0x1000
}

fn evaluate(code: &[u8]) -> Result<u64, AgentError> {
    let registers = Registers {
        rax: 7,
        eflags: 0x246,
        gs_base: 9,
        ..Default::default()
    };
    Expression::new(code.to_vec()).evaluate(&registers, &mut memory)
}

/// Constants, then operations.
fn with(constants: &[i64], operations: &[u8]) -> Result<u64, AgentError> {
    let mut code: Vec<u8> = constants
        .iter()
        .flat_map(|c| std::iter::once(CONST64).chain(c.to_be_bytes()))
        .collect();
    code.extend(operations);
    code.push(END);
    evaluate(&code)
}

#[test]
fn arithmetic() {
    let both = |a, b, op| with(&[a, b], &[op]).map(u64::cast_signed);
    assert_eq!(both(3, 4, ADD), Ok(7));
    assert_eq!(both(3, 4, SUB), Ok(-1));
    assert_eq!(both(-3, 4, MUL), Ok(-12));
    assert_eq!(both(-7, 2, DIV_SIGNED), Ok(-3));
    assert_eq!(both(i64::MIN, -1, DIV_SIGNED), Ok(i64::MIN));
    assert_eq!(both(i64::MIN, -1, REM_SIGNED), Ok(0));
    assert_eq!(both(-1, 2, DIV_UNSIGNED), Ok(i64::MAX));
    assert_eq!(both(-7, 4, REM_SIGNED), Ok(-3));
    assert_eq!(both(7, 4, REM_UNSIGNED), Ok(3));
    for op in [DIV_SIGNED, DIV_UNSIGNED, REM_SIGNED, REM_UNSIGNED] {
        assert_eq!(both(7, 0, op), Err(AgentError::DivisionByZero));
    }
    assert_eq!(both(1, 63, LSH), Ok(i64::MIN));
    assert_eq!(both(1, 64, LSH), Ok(0));
    assert_eq!(both(-8, 1, RSH_SIGNED), Ok(-4));
    assert_eq!(both(-8, 99, RSH_SIGNED), Ok(-1));
    assert_eq!(both(-1, 60, RSH_UNSIGNED), Ok(15));
    assert_eq!(both(6, 3, BIT_AND), Ok(2));
    assert_eq!(both(6, 3, BIT_OR), Ok(7));
    assert_eq!(both(6, 3, BIT_XOR), Ok(5));
    assert_eq!(both(-1, 1, LESS_SIGNED), Ok(1));
    assert_eq!(both(-1, 1, LESS_UNSIGNED), Ok(0));
    assert_eq!(both(5, 5, EQUAL), Ok(1));
    assert_eq!(with(&[0], &[LOG_NOT]), Ok(1));
    assert_eq!(with(&[0], &[BIT_NOT]), Ok(u64::MAX));
    assert_eq!(with(&[0x80], &[EXT, 8]).map(u64::cast_signed), Ok(-128));
    assert_eq!(with(&[-1], &[ZERO_EXT, 8]), Ok(255));
    assert_eq!(with(&[-1], &[ZERO_EXT, 64]), Ok(u64::MAX));
}

#[test]
fn the_stack() {
    assert_eq!(with(&[1, 2], &[SWAP, SUB]), Ok(1));
    assert_eq!(with(&[1, 2, 3], &[PICK, 2]), Ok(1));
    assert_eq!(with(&[5], &[DUP, ADD]), Ok(10));
    assert_eq!(with(&[1, 2], &[POP]), Ok(1));
    // a b c ⇒ c a b
    assert_eq!(with(&[1, 2, 3], &[ROT]), Ok(2));
    assert_eq!(with(&[1, 2, 3], &[ROT, POP]), Ok(1));
    assert_eq!(with(&[1, 2, 3], &[ROT, POP, POP]), Ok(3));
    assert_eq!(with(&[1], &[ADD]), Err(AgentError::Underflow));
    assert_eq!(evaluate(&[END]), Err(AgentError::Underflow));
    // 0: const8 1; 2: goto 0
    assert_eq!(evaluate(&[CONST8, 1, GOTO, 0, 0]), Err(AgentError::Overflow));
}

#[test]
fn registers_memory_and_jumps() {
    assert_eq!(evaluate(&[REG, 0, 0, END]), Ok(7));
    assert_eq!(evaluate(&[REG, 0, 17, END]), Ok(0x246));
    assert_eq!(evaluate(&[REG, 0, 59, END]), Ok(9));
    assert_eq!(evaluate(&[REG, 0, 40, END]), Err(AgentError::Register(40)));
    assert_eq!(with(&[0x1002], &[REF32]), Ok(0x0504_0302));
    assert_eq!(with(&[0x1002], &[REF8]), Ok(2));
    assert_eq!(with(&[0x10], &[REF64]), Err(AgentError::Memory(Addr(0x10))));
    // 0: reg rax; 3: if_goto 9; 6: const8 1; 8: end; 9: const16 515; 12: end
    let code = [REG, 0, 0, IF_GOTO, 0, 9, CONST8, 1, END, CONST16, 2, 3, END];
    assert_eq!(evaluate(&code), Ok(515));
    assert_eq!(evaluate(&[GOTO, 0, 0]), Err(AgentError::TooLong));
    assert_eq!(evaluate(&[GOTO, 1, 0]), Err(AgentError::Truncated));
    assert_eq!(evaluate(&[0x0c]), Err(AgentError::Unsupported(0x0c)));
    assert_eq!(evaluate(&[CONST32, 0, 0]), Err(AgentError::Truncated));
}

#[test]
fn what_goes_wrong_counts_as_true() {
    let holds = |code: &[u8]| Expression::new(code.to_vec()).holds(&Registers::default(), &mut memory);
    assert!(holds(&[]));
    assert!(holds(&[CONST8, 1, END]));
    assert!(!holds(&[CONST8, 0, END]));
}

#[test]
fn what_is_no_program_stays_with_the_interpreter() {
    let is_program = |code: &[u8]| Expression::new(code.to_vec()).program().is_some();
    assert!(is_program(&[REG, 0, 7, CONST8, 3, EQUAL, END]));
    // Back, into an operand, beyond the end.
    assert!(!is_program(&[CONST8, 1, GOTO, 0, 0, END]));
    assert!(!is_program(&[CONST8, 1, GOTO, 0, 6, CONST8, 1, END]));
    assert!(!is_program(&[CONST8, 1, GOTO, 0, 9, END]));
    // The flags, a tracepoint's operation, code that is cut short, nothing.
    assert!(!is_program(&[REG, 0, 17, END]));
    assert!(!is_program(&[0x0c, END]));
    assert!(!is_program(&[CONST32, 0, 0]));
    assert!(!is_program(&[]));
    // An empty stack has nothing to extend.
    assert!(!is_program(&[EXT, 64, CONST8, 1, END]));
    assert!(!is_program(&[ZERO_EXT, 0, CONST8, 1, END]));
}

proptest! {
    #[test]
    fn any_code_ends(code in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..0x34], 0..200)) {
        let _ = evaluate(&code);
    }
}
