//! Claims of CPUs, so that several rr at once spread over the machine.
//!
//! A recorder and its tracees stay on one CPU for their whole life. Two recordings on one CPU take
//! twice as long, while another CPU may be idle. So each rr claims its CPU, and takes the CPU with the
//! fewest claims.
//!
//! A claim is an abstract Unix socket (unix(7)) with the CPU's number in its name. Only one process can
//! have a given name, all users of a network namespace share the names, and the kernel frees a name
//! when its process ends, for whatever reason.
//!
//! ```text
//! @rr/cpu/0/1    the first rr on CPU 0
//! @rr/cpu/1/1    the first rr on CPU 1
//! @rr/cpu/0/2    the second rr on CPU 0
//! ```
//!
//! Claims affect only speed: if there are no such sockets, each rr stays on its current CPU.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::Cpus;

/// Maximum number of claims of a CPU; further processes make none.
const CLAIMS: usize = 16;
/// Beginning of the names of claims.
const PREFIX: &str = "rr/cpu";

/// A claim of a CPU. It lasts until it is dropped.
#[derive(Debug)]
pub struct Claim {
    cpu: usize,
    /// Number of claims of this CPU, including this one.
    claims: usize,
    _name: Option<UnixListener>,
}

impl Claim {
    /// Claims the CPU with the fewest claims. Among equals, the CPU that the caller is to be bound to
    /// is preferred.
    pub fn least(cpus: &Cpus) -> Claim {
        Claim::among(PREFIX, &[&[cpus.bound], &cpus.others()[..]].concat())
    }

    /// Claims this CPU, even if others have claimed it.
    pub fn of(cpu: usize) -> Claim {
        Claim::among(PREFIX, &[cpu])
    }

    /// Claims a CPU with the fewest claims: the first of them.
    fn among(prefix: &str, cpus: &[usize]) -> Claim {
        let places = (1..=CLAIMS).flat_map(|n| cpus.iter().map(move |cpu| (*cpu, n)));
        let claimed = places.map(|(cpu, n)| (cpu, n, name(prefix, cpu, n)));
        let mut free = claimed.filter_map(|(cpu, n, name)| Some((cpu, n, name.ok()?)));
        match free.next() {
            Some((cpu, claims, name)) => Claim {
                cpu,
                claims,
                _name: Some(name),
            },
            None => Claim {
                cpu: cpus.first().copied().unwrap_or(0),
                claims: 1,
                _name: None,
            },
        }
    }

    /// The claimed CPU.
    pub fn cpu(&self) -> usize {
        self.cpu
    }

    /// Returns whether another rr had claimed this CPU before.
    pub fn is_shared(&self) -> bool {
        self.claims > 1
    }
}

/// Takes the name of the n-th claim of a CPU.
fn name(prefix: &str, cpu: usize, n: usize) -> std::io::Result<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("{prefix}/{cpu}/{n}"))?;
    UnixListener::bind_addr(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(claims: &[Claim]) -> Vec<usize> {
        claims.iter().map(Claim::cpu).collect()
    }

    #[test]
    fn claims_spread_and_end() {
        let prefix = format!("rr-test-{}/cpu", std::process::id());
        let claim = || Claim::among(&prefix, &[3, 0, 7]);
        let mut all: Vec<Claim> = (0..7).map(|_| claim()).collect();
        assert_eq!(cpus(&all), [3, 0, 7, 3, 0, 7, 3]);
        assert_eq!(all.iter().filter(|c| c.is_shared()).count(), 4);
        // CPU 0 loses its claims, so it comes next until another CPU has fewer.
        all.retain(|claim| claim.cpu() != 0);
        let again = [claim(), claim(), claim(), claim()];
        assert_eq!(cpus(&again), [0, 0, 0, 7]);
        assert!(!again[0].is_shared() && again[1].is_shared());
        // With one CPU to choose from, that CPU is claimed, whatever other claims there are.
        assert_eq!(Claim::among(&prefix, &[3]).cpu(), 3);
    }

    #[test]
    fn there_is_a_cpu_when_all_claims_are_taken() {
        let prefix = format!("rr-test-full-{}/cpu", std::process::id());
        let all: Vec<Claim> = (0..CLAIMS + 2).map(|_| Claim::among(&prefix, &[5])).collect();
        assert!(all.iter().all(|claim| claim.cpu() == 5));
    }
}
