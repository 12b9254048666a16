//! Ready-made labs.

use super::{Host, Impairment, Lab, LabError, Nat, Router};

/// Two terminals behind routers of their own, and one public host for a directory.
#[derive(Debug)]
pub struct Pair {
    /// The internet between them.
    pub lab: Lab,
    /// Where the directory runs.
    pub directory: Host,
    /// The caller's router.
    pub router_a: Router,
    /// The callee's router.
    pub router_b: Router,
    /// The caller.
    pub a: Host,
    /// The callee.
    pub b: Host,
}

impl Pair {
    /// Terminals `access_ms` away from the core each (so the round trip between them is four times that); the
    /// directory, in a data centre, 5 ms.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn new(name: &str, nat_a: Nat, nat_b: Nat, access_ms: u64) -> Result<Self, LabError> {
        let lab = Lab::new(name)?;
        let directory = lab.host("dir", Impairment::delay_ms(5))?;
        let router_a = lab.router("nata", nat_a, Impairment::delay_ms(access_ms))?;
        let router_b = lab.router("natb", nat_b, Impairment::delay_ms(access_ms))?;
        let a = router_a.host("a")?;
        let b = router_b.host("b")?;
        Ok(Self { lab, directory, router_a, router_b, a, b })
    }
}

/// Public hosts with the same round trip between any two, and two terminals behind port-restricted NATs.
#[derive(Debug)]
pub struct Mesh {
    /// The internet between them.
    pub lab: Lab,
    /// The public hosts.
    pub servers: Vec<Host>,
    /// The caller.
    pub a: Host,
    /// The callee.
    pub b: Host,
}

impl Mesh {
    /// `servers` public hosts; `round_trip_ms` (a multiple of 4) between any two of all hosts.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn new(name: &str, servers: usize, round_trip_ms: u64) -> Result<Self, LabError> {
        let lab = Lab::new(name)?;
        let access = Impairment::delay_ms(round_trip_ms / 4);
        let servers =
            (0..servers).map(|i| lab.host(&format!("s{i}"), access.clone())).collect::<Result<_, _>>()?;
        let a = lab.router("nata", Nat::PortRestricted, access.clone())?.host("a")?;
        let b = lab.router("natb", Nat::PortRestricted, access)?.host("b")?;
        Ok(Self { lab, servers, a, b })
    }
}
