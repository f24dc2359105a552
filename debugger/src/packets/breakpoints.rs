//! `Z0` to `Z4`, `z0` to `z4`: breakpoints and watchpoints, with their conditions.

use rr_tracee::Addr;

use crate::agent::Expression;
use crate::hex;
use crate::server::{Answer, Server};
use crate::target::{Condition, PointKind};

/// The number of points that a client may have set: more than anybody sets by hand.
const MAX_POINTS: usize = 10_000;
/// The length that the conditions of a point may have together, in bytes.
const MAX_CONDITIONS: usize = 8192;

struct Point<'p> {
    kind: PointKind,
    addr: Addr,
    len: u64,
    /// The rest: conditions, commands.
    rest: &'p [u8],
}

/// `TYPE,ADDR,KIND[;…]`; None for a type that there is not.
fn parse(text: &[u8]) -> Result<Point<'_>, Answer> {
    let (kind, text) = hex::split(text, b',').ok_or_else(Answer::invalid)?;
    let kind = match kind {
        b"0" => PointKind::Software,
        b"1" => PointKind::Hardware,
        b"2" => PointKind::Write,
        b"3" => PointKind::Read,
        b"4" => PointKind::Access,
        _ => return Err(Answer::unsupported()),
    };
    let (place, rest) = hex::split(text, b';').unwrap_or((text, b""));
    let (addr, len) = hex::pair(place, b',').ok_or_else(Answer::invalid)?;
    let addr = Addr(addr);
    Ok(Point {
        kind,
        addr,
        len,
        rest,
    })
}

/// `X LENGTH,CODE` as often as there are conditions, with or without separators. Commands are not offered.
fn conditions(text: &[u8]) -> Option<Vec<Box<dyn Condition>>> {
    let mut conditions: Vec<Box<dyn Condition>> = Vec::new();
    let mut rest = text;
    let mut total = 0;
    loop {
        while let Some(after) = rest.strip_prefix(b";") {
            rest = after;
        }
        if rest.is_empty() || rest.starts_with(b"cmds:") {
            return Some(conditions);
        }
        let (len, code) = hex::split(rest.strip_prefix(b"X")?, b',')?;
        let digits = usize::try_from(hex::number(len)?).ok()?.checked_mul(2)?;
        let code_digits = code.get(..digits)?;
        // Each one costs something beside its code.
        total += digits / 2 + 32;
        if total > MAX_CONDITIONS {
            return None;
        }
        conditions.push(Box::new(Expression::new(hex::decode(code_digits)?)));
        rest = &code[digits..];
    }
}

impl Server<'_> {
    /// `Z…`
    pub(super) fn insert_point(&mut self, rest: &[u8]) -> Answer {
        let Point {
            kind,
            addr,
            len,
            rest,
        } = match parse(rest) {
            Ok(point) => point,
            Err(answer) => return answer,
        };
        let Some(conditions) = conditions(rest) else {
            return Answer::invalid();
        };
        if self.elsewhere {
            return Answer::ok();
        }
        if !self.alive {
            return Answer::missing();
        }
        if self.points.len() >= MAX_POINTS {
            return Answer::text("E.too many breakpoints");
        }
        match self.target.insert_point(kind, addr, len, conditions) {
            Ok(()) => {
                self.points.insert((kind, addr, len));
                Answer::ok()
            }
            Err(e) => Answer::said(&e),
        }
    }

    /// `z…`
    pub(super) fn remove_point(&mut self, rest: &[u8]) -> Answer {
        let Point { kind, addr, len, .. } = match parse(rest) {
            Ok(point) => point,
            Err(answer) => return answer,
        };
        if self.elsewhere {
            return Answer::ok();
        }
        self.points.remove(&(kind, addr, len));
        match self.target.remove_point(kind, addr, len) {
            Ok(()) => Answer::ok(),
            Err(e) => Answer::said(&e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_conditions() {
        let count = |text: &str| conditions(text.as_bytes()).map(|all| all.len());
        assert_eq!(count(""), Some(0));
        assert_eq!(count("X3,220127"), Some(1));
        assert_eq!(count("X3,220127X1,27"), Some(2));
        assert_eq!(count(";X3,220127;X1,27;cmds:1,X0,"), Some(2));
        assert_eq!(count(&"X1,27".repeat(300)), None);
        for bad in [
            "X",
            "X9,27",
            "X1,2",
            "X1,zz",
            "y",
            "X3,220127z",
            "Xffffffffffffffff,00",
        ] {
            assert_eq!(count(bad), None, "{bad}");
        }
    }
}
